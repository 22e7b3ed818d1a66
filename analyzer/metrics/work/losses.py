"""Losses and their gradients."""

from __future__ import annotations

from analyzer.metrics.work.registry import Work, register, tally
from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.shapes import broadcast, like, short_name

# FLOP per element without the sum, where ``reduction`` stands (0: none, 1: mean, 2: sum)
_ELEMENTWISE = {
    "mse_loss": (2.0, 2), "smooth_l1_loss": (4.0, 2), "huber_loss": (4.0, 2), "l1_loss": (2.0, 2), "soft_margin_loss": (4.0, 2),
    "binary_cross_entropy": (8.0, 3), "binary_cross_entropy_with_logits": (6.0, 4),
}  # fmt: skip
_GRADIENTS = {
    "mse_loss_backward": 3.0, "smooth_l1_loss_backward": 3.0, "huber_loss_backward": 3.0, "soft_margin_loss_backward": 5.0,
    "binary_cross_entropy_backward": 5.0,
}  # fmt: skip


@register(*_ELEMENTWISE)
def _loss(call: OpCall) -> Work | None:
    """Per element: squares 2, smooth absolute values 4, cross entropy 8 (6 from logits); one more for the sum."""
    per_element, at = _ELEMENTWISE[short_name(call)]
    given = [call.tensor(i) for i in range(at)]
    shape = broadcast([t.shape for t in given if t is not None])
    x, reduction = given[0], call.value(at)
    if x is None or shape is None:
        return None
    out = _reduced(call, like(x, shape), reduction)
    whole = like(x, shape).numel
    return None if out is None else tally((per_element + (out.numel < whole)) * whole, given, [out])


def _reduced(call: OpCall, unreduced: TensorArg, reduction: object) -> TensorArg | None:
    results = call.results()
    if results:
        return results[0]
    if not isinstance(reduction, int):
        return None
    return like(unreduced, ()) if reduction else unreduced


@register(*_GRADIENTS)
def _loss_backward(call: OpCall) -> Work | None:
    """Per element the derivative and its product with the gradient; reads gradient, input, target and weight."""
    grad, x, target = (call.tensor(i) for i in range(3))
    if grad is None or x is None or target is None:
        return None
    weight = call.tensor(3)
    return tally(_GRADIENTS[short_name(call)] * x.numel, [grad, x, target, weight], call.results() or [like(x)])


@register("nll_loss_forward", "nll_loss2d_forward")
def _nll(call: OpCall) -> Work | None:
    """Reads one log-probability of [N,C,...] per target and adds them up; writes the loss and the total weight."""
    x, target, weight = (call.tensor(i) for i in range(3))
    if x is None or target is None:
        return None
    results = call.results()
    if not results:
        reduction = call.value(3)
        if not isinstance(reduction, int):
            return None
        results = [like(x, () if reduction else target.shape), like(x, ())]
    return tally(target.numel, [like(x, target.shape), target, weight], results[:2])


@register("nll_loss_backward", "nll_loss2d_backward")
def _nll_backward(call: OpCall) -> Work | None:
    """One product per target; writes the gradient of [N,C,...] whole, zeros included. The input is not read."""
    grad, x, target, weight, total = (call.tensor(i) for i in (0, 1, 2, 3, 6))
    if grad is None or x is None or target is None:
        return None
    return tally(target.numel, [grad, target, weight, total], call.results() or [like(x)])
