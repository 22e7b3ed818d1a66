"""What the rules on kernels share: the launches that compute, their time per step, and names as a text may hold them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analyzer.format import quantity
from analyzer.insight.caveats import HOST_BOUND_PCT
from analyzer.insight.rules.statement import fact, saving, steps_of
from analyzer.insight.verdict import waiting_pct
from analyzer.metrics.limits import Limits, limits_of
from analyzer.metrics.timing import Stretches, merge, subtract
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.findings import Fact
from analyzer.schema.results import Analysis
from analyzer.trace.scopes import module_pattern

NEGLIGIBLE_PCT = 1.0
"""What takes less than this share of the kernel time is no finding: two runs of one program differ by more."""
HALF = ("float16", "bfloat16")
"""The 16-bit formats that matrix units take."""
MOST_DIGITS = 19
"""Of a size: what 64 bits hold."""
COLUMNS = [
    "start_ns", "dur_ns", "device", "stream", "correlation", "graph_id", "link", "kernel", "op", "module", "kind", "owner",
    "owner_op", "flop", "basis", "shapes", "dtype", "unit", "unit_assumed", "product", "floor_compute_us", "floor_memory_us",
    "floor_us", "waves", "tail_efficiency_pct", "blocks_per_sm", "exclusive_us",
]  # fmt: skip
"""What the rules read of a launch."""
NAME_LENGTH = 60
"""Characters of a name of the trace that a text holds: enough to find it in the table of kernels."""


def kernels(a: Analysis) -> pd.DataFrame:
    """Return COLUMNS of the launches that compute: kernels, on a CPU run operators; no copies and fills."""
    return a.launches.loc[_computes(a), COLUMNS]


def _computes(a: Analysis) -> pd.Series[bool]:
    return a.launches["category"].isin(("kernel", "operator"))


def per_step_us(a: Analysis, rows: pd.DataFrame) -> float:
    """Return the time of ``rows`` in µs per step; launches that overlap share each moment."""
    return float(rows["exclusive_us"].sum()) / steps_of(a)


def share_pct(a: Analysis, rows: pd.DataFrame) -> float:
    """Return the share of ``rows`` in the time of all kernels, in percent; 0 where nothing ran."""
    whole = float(a.launches["exclusive_us"][_computes(a)].sum())
    return 100 * float(rows["exclusive_us"].sum()) / whole if whole > 0 else 0.0


def is_negligible(a: Analysis, rows: pd.DataFrame) -> bool:
    """Tell whether ``rows`` take too little of the kernel time for a finding."""
    return share_pct(a, rows) < NEGLIGIBLE_PCT


def time_fact(a: Analysis, rows: pd.DataFrame, name: str) -> Fact:
    """Return the time of ``rows`` per step as a fact."""
    return fact(name, per_step_us(a, rows), "us", Evidence.MEASURED)


def share_fact(a: Analysis, rows: pd.DataFrame) -> Fact:
    """Return the share of ``rows`` in the kernel time as a fact."""
    of = "kernel time" if a.device.type == "cuda" else "time of all operators"
    return fact(f"share of the {of}", share_pct(a, rows), "%", Evidence.MEASURED)


def count_fact(a: Analysis, number: float, name: str) -> Fact:
    """Return how many of something there are per step as a fact."""
    return fact(name, number / steps_of(a), "count", Evidence.MEASURED)


def shown(found: Fact) -> str:
    """Return the figure of a fact as every text writes it."""
    return quantity(found.figure)


def per(a: Analysis) -> str:
    """Return what times are given for: a step, or all that the figures cover."""
    return "per step" if a.window.batches else "in the whole trace"


def same_work(a: Analysis) -> str:
    """Return what one runs again to try a change: the step, or the work of the whole trace."""
    return "the step" if a.window.batches else "the same work"


def worker(a: Analysis) -> str:
    """Return what does the work in a run: GPU kernels, or operators of a CPU."""
    return "kernels" if a.device.type == "cuda" else "operators"


def named(text: str) -> str:
    """Return a name of the trace in quotes, shortened. What stands in quotes is no figure of ours."""
    plain = " ".join(text[: 4 * NAME_LENGTH].replace("“", "").replace("”", "").split())
    return f"“{plain if len(plain) <= NAME_LENGTH else plain[:NAME_LENGTH] + '…'}”"


def place(rows: pd.DataFrame) -> str:
    """Return the operator and, where known, the module of those of ``rows`` that take longest together, in quotes.

    Modules that differ in their numbers alone are one.
    """
    keys = rows["owner_op"].where(rows["owner_op"] != "", rows["kernel"]).astype(str)
    table = pd.DataFrame(
        {
            "op": keys,
            "module": rows["module"].map({m: module_pattern(m) for m in rows["module"].unique()}),
            "us": rows["exclusive_us"],
        }
    )
    times = table.groupby(["op", "module"], sort=False)["us"].sum().reset_index()
    op, module = times.sort_values("us", kind="stable")[["op", "module"]].astype(str).iloc[-1].tolist()
    return named(op) + (f" in {named(module)}" if module else "")


def limits(a: Analysis) -> Limits | None:
    """Return all limits of the device; None where the user's own sheet was used, which an analysis does not carry."""
    if any(limit.figure.source.startswith("gpu_spec sheet") for limit in a.limits):
        return None
    return limits_of(a.run, a.device)


def bandwidth_gbps(a: Analysis) -> float | None:
    """Return the bandwidth that the floors use in GB/s, None where it is not known."""
    return next((limit.figure.value for limit in a.limits if limit.name == "bandwidth used for floors"), None)


def is_training(a: Analysis) -> bool:
    """Tell whether gradients or an optimizer ran."""
    gradients = any("backward" in op.lower() for op in a.launches["op"].unique())
    return gradients or bool(a.launches["kind"].eq("optimizer").any())


def kernel_saving(a: Analysis, low_us: float, high_us: float, most_us: float) -> Quantity:
    """Return what shorter kernels save per step in µs.

    A GPU that waits for its host finishes a shorter kernel and waits longer, so nothing is certain then: the low end is 0.
    """
    return saving(a, 0.0 if waits(a) else low_us, high_us, most_us)


def waits(a: Analysis) -> bool:
    """Tell whether the host sets the pace of a GPU."""
    return a.device.type == "cuda" and waiting_pct(a) > HOST_BOUND_PCT


def idle_of(a: Analysis) -> Stretches:
    """Return the stretches of the window in which nothing runs on the device, in ns."""
    covered = a.window.stretches or ((a.window.start_ns, a.window.end_ns),)
    window = np.array([s for s, _ in covered], np.int64), np.array([e for _, e in covered], np.int64)
    start, end = (np.asarray(column, np.int64) for column in a.segments[:2])
    return subtract(window, merge(start, end))


def idle_fact(a: Analysis) -> Fact:
    """Return the share of time in which the GPU has nothing to do: of the untraced median where there is one."""
    timed = a.latency is not None and a.latency.median_ms.value and a.window.batches
    return fact("share of time without work", waiting_pct(a), "%", Evidence.DERIVED if timed else Evidence.MEASURED)


def waiting_note(a: Analysis) -> tuple[str, tuple[Fact, ...]]:
    """Return the sentence that goes with shorter kernels on a GPU that waits for its host, and its fact; else nothing."""
    if not waits(a):
        return "", ()
    idle = idle_fact(a)
    return f" The GPU is idle for {shown(idle)} of the time, so shorter kernels may not save time.", (idle,)


def dims_of(shapes: str) -> tuple[tuple[int, ...], ...]:
    """Return the input shapes of a launch from their text; scalars are empty, what cannot be read ends the list."""
    out: list[tuple[int, ...]] = []
    for token in shapes.split():
        if token == "...":
            break
        sides = () if token == "scalar" else tuple(token.split("x"))
        if not all(side.isascii() and side.isdecimal() and len(side) <= MOST_DIGITS for side in sides):
            break
        out.append(tuple(map(int, sides)))
    return tuple(out)


def numel(shape: tuple[int, ...]) -> int:
    """Return the number of elements."""
    return math.prod(shape)
