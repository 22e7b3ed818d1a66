"""Whether two runs are an eager and a compiled run of one model, and what else differs between them."""

from __future__ import annotations

import math

from analyzer.insight.fusion_matching import is_generated
from analyzer.insight.rules.statement import compile_mode
from analyzer.metrics.arithmetic import MATRIX_KINDS
from analyzer.metrics.attribution import counted
from analyzer.schema.results import Analysis
from analyzer.schema.run import RunFacts

GENERATED_PCT = 1.0
"""A foreign trace counts as compiled where generated kernels take at least this share of its kernel time."""
SAME_WORK = 0.01
"""Two foreign traces count as one model where the FLOP of products, convolutions and attention differ by no more than this."""


def oriented(a: Analysis, b: Analysis) -> tuple[int, int] | None:
    """Return the numbers (0 or 1) of the eager and of the compiled run, None where that is not what the two are.

    Own runs say what they ran. Of foreign traces one must hold generated kernels and the other none, and both must start with
    the same input and do the same work in products, convolutions and attention, per step.
    """
    if (a.run.facts is None) != (b.run.facts is None):
        return None
    compiled = [_is_compiled(run) for run in (a, b)]
    if compiled[0] == compiled[1]:
        return None
    same = _same_model(a.run.facts, b.run.facts) if a.run.facts and b.run.facts else _same_work(a, b)
    return ((1, 0) if compiled[0] else (0, 1)) if same else None


def _is_compiled(a: Analysis) -> bool:
    return compile_mode(a) != "off" if a.run.facts else generated_pct(a) >= GENERATED_PCT


def generated_pct(a: Analysis) -> float:
    """Return the share of the kernel time in kernels that a compiler generated, in percent; 0 where nothing ran."""
    time = a.launches["exclusive_us"].groupby(a.launches["kernel"].astype(str), observed=True).sum()
    made = sum(us for kernel, us in time.items() if is_generated(str(kernel)))
    return 100 * float(made) / float(time.sum()) if time.sum() > 0 else 0.0


def _same_model(one: RunFacts, two: RunFacts) -> bool:
    return (one.model.name, one.model.factory, one.model.input_shape, one.model.parameters) == (
        two.model.name, two.model.factory, two.model.input_shape, two.model.parameters
    )  # fmt: skip


def _same_work(a: Analysis, b: Analysis) -> bool:
    """Tell whether two foreign traces run one model on the same input, as far as their shapes tell."""
    inputs = {(run.access.batch_size, run.access.image_size) if run.access else (0, 0) for run in (a, b)}
    if len(inputs) != 1 or not all(next(iter(inputs))):
        return False
    work = [_dense_flop(run) for run in (a, b)]
    # a compiler that was given another share of the model, or none of its shapes, leaves other work
    return all(math.isfinite(w) and w > 0 for w in work) and abs(work[0] - work[1]) <= SAME_WORK * max(work)


def _dense_flop(a: Analysis) -> float:
    rows = a.launches[counted(a.launches) & a.launches["kind"].isin(MATRIX_KINDS)]
    return float(rows["flop"].sum()) / (a.window.batches or 1)


def find_cautions(eager: Analysis, compiled: Analysis) -> tuple[str, ...]:
    """Return what else differs between the two runs, so that a difference need not come from compiling; a sentence each."""
    pairs = [("device", eager.device.name, compiled.device.name), ("element type", eager.dtype, compiled.dtype)]
    if eager.run.facts and compiled.run.facts:
        one, two = eager.run.facts.settings, compiled.run.facts.settings
        names = {
            "threads": "threads", "memory_format": "layout", "attention": "attention setting", "autocast": "autocast",
            "input": "place of the input", "cudnn_benchmark": "cudnn.benchmark", "matmul_precision": "matmul precision",
        }  # fmt: skip
        pairs += [(words, str(getattr(one, name)), str(getattr(two, name))) for name, words in names.items()]
        versions = [facts.versions.get("torch", "?") for facts in (eager.run.facts, compiled.run.facts)]
        pairs.append(("torch version", versions[0], versions[1]))
    differing = [f"{name} ({first} and {second})" for name, first, second in pairs if first != second]
    if not differing:
        return ()
    return (f"The runs also differ in {', '.join(differing)}. So what differs below need not come from compiling.",)
