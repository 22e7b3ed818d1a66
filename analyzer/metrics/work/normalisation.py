"""Norms, forward."""

from __future__ import annotations

from analyzer.metrics.work.registry import Work, register, tally
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.shapes import like, short_name


def _statistics_dtype(x: TensorArg) -> str:
    """Approximation: statistics of 16-bit inputs are counted as float32, which is what CUDA keeps."""
    return "float32" if x.dtype in ("float16", "bfloat16") else x.dtype


@register("native_layer_norm", per_element=5.0)
def _layer_norm(call: OpCall) -> Work | None:
    """Five FLOP per element: sum and sum of squares (3), one multiply-add (2). Writes output, means, inverse deviations."""
    return _normalised(call, 5.0, [call.tensor(2), call.tensor(3)], statistics=2)


@register("_fused_rms_norm", per_element=4.0)
def _rms_norm(call: OpCall) -> Work | None:
    """Four FLOP per element: the sum of squares (2), the scale and the weight. Writes the output and the inverse roots."""
    return _normalised(call, 4.0, [call.tensor(2)], statistics=1)


def _normalised(call: OpCall, per_element: float, weights: list[TensorArg | None], statistics: int) -> Work | None:
    """Return the work over the trailing dimensions that ``normalized_shape`` (at 1) or a weight names."""
    x, shape = call.tensor(0), call.ints(1)
    if x is None:
        return None
    ranks = [len(shape)] if shape else [len(w.shape) for w in weights if w is not None]
    if not ranks and not call.results():
        return None
    writes = call.results()
    if not writes:
        rows = (*x.shape[: len(x.shape) - ranks[0]], *(1,) * ranks[0])
        writes = [like(x), *[like(x, rows, _statistics_dtype(x))] * statistics]
    return tally(per_element * x.numel, [x, *weights], writes)


@register("native_group_norm", per_element=5.0)
def _group_norm(call: OpCall) -> Work | None:
    """Five FLOP per element, as layer norm. Writes the output and two statistics of each of the [N, groups]; groups at 6."""
    x, batch, groups = call.tensor(0), call.value(3), call.value(6)
    if x is None:
        return None
    writes = call.results()
    if not writes:
        if not isinstance(groups, int) or not x.shape:
            return None
        rows = batch if isinstance(batch, int) else x.shape[0]
        writes = [like(x), *[like(x, (rows, groups))] * 2]
    return tally(5.0 * x.numel, [x, call.tensor(1), call.tensor(2)], writes)


# where ``training`` stands; True or False where the operator leaves no choice
_BATCH_NORMS: dict[str, int | bool] = {
    "native_batch_norm": 5, "cudnn_batch_norm": 5, "miopen_batch_norm": 5, "_native_batch_norm_legit": 5,
    "_native_batch_norm_legit_functional": 5, "_native_batch_norm_legit_no_training": False, "batch_norm_inference": False,
    "_batch_norm_with_update": True, "_batch_norm_with_update_functional": True, "_batch_norm_no_update": False,
}  # fmt: skip


@register(*_BATCH_NORMS, per_element=2.0)
def _batch_norm(call: OpCall) -> Work | None:
    """One multiply-add per element with constant statistics, three FLOP more where they are computed (training, position 5).

    Training writes the saved mean and inverse deviation [C] and the running statistics, as far as there are any.
    """
    x = call.tensor(0)
    if x is None or len(x.shape) < 2:
        return None
    choice = _BATCH_NORMS[short_name(call)]
    running = [call.tensor(3), call.tensor(4)]
    if call.name == "aten::_native_batch_norm_legit" and isinstance(call.value(3), bool):
        choice, running = 3, []  # .no_stats
    results = call.results()
    training = choice if isinstance(choice, bool) else call.value(choice)
    if training is None and len(results) > 1:
        training = results[1].numel > 0
    if not isinstance(training, bool):
        return _unsure(call, x)
    saved = [TensorArg((x.shape[1],), _statistics_dtype(x))] * 2 if training else []
    updated = running if training and "functional" not in call.name else []
    weights = [call.tensor(1), call.tensor(2)]
    if not results:
        results = [like(x), *saved, *([t for t in running if t is not None] if "functional" in call.name else [])]
    return tally((5.0 if training else 2.0) * x.numel, [x, *weights, *running], [*results, *updated])


def _unsure(call: OpCall, x: TensorArg) -> Work:
    """Return the work where ``training`` was not recorded: bytes from those of inference to those of training.

    Approximation: the FLOP are those of inference then.
    """
    tensors = [call.tensor(i) for i in range(5)]
    row = TensorArg((x.shape[1],), _statistics_dtype(x))
    low, high = (tally(2.0 * x.numel, tensors, [like(x), *more]) for more in ([], [row, row, call.tensor(3), call.tensor(4)]))
    return Work(low.flop, low.bytes, low.basis, high.bytes if high.bytes > low.bytes else None)


@register("batch_norm_stats", per_element=3.0)
def _batch_statistics(call: OpCall) -> Work | None:
    """Three FLOP per element, sum and sum of squares; writes mean and inverse deviation [C]."""
    x = call.tensor(0)
    if x is None or len(x.shape) < 2:
        return None
    row = like(x, (x.shape[1],), _statistics_dtype(x))
    return tally(3.0 * x.numel, [x], call.results() or [row, row])


@register("batch_norm_elemt", per_element=2.0)
def _batch_apply(call: OpCall) -> Work | None:
    """One multiply-add per element; reads input, weight, bias, mean and inverse deviation."""
    x = call.tensor(0)
    return None if x is None else tally(2.0 * x.numel, [call.tensor(i) for i in range(5)], call.results() or [like(x)])


@register("batch_norm_gather_stats", "batch_norm_gather_stats_with_counts")
def _gathered_statistics(call: OpCall) -> Work | None:
    """Welford's merge of [ranks, C] means and deviations, five FLOP each; the input itself is not read."""
    mean = call.tensor(1)
    if mean is None or not mean.shape:
        return None
    row = like(mean, mean.shape[-1:])
    running = [call.tensor(3), call.tensor(4)]
    reads = [mean, call.tensor(2), *running, call.tensor(7)]
    return tally(5.0 * mean.numel, reads, [*(call.results() or [row, row]), *running])


@register("batch_norm_update_stats")
def _updated_statistics(call: OpCall) -> Work | None:
    """Three FLOP per element, sum and sum of squares; writes both statistics and updates the running ones."""
    x, running = call.tensor(0), [call.tensor(1), call.tensor(2)]
    if x is None or len(x.shape) < 2:
        return None
    row = like(x, (x.shape[1],), _statistics_dtype(x))
    return tally(3.0 * x.numel, [x, *running], [*(call.results() or [row, row]), *running])
