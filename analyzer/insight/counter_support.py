"""What the hardware counters of a recorded trace support, and how a program that somebody else wrote is counted."""

from __future__ import annotations

from dataclasses import dataclass

from analyzer.format import count, counted
from analyzer.hardware import counters as named
from analyzer.insight.counters import METRICS, percent_of_time
from analyzer.schema.examination import Capability
from analyzer.schema.run import CounterFacts
from analyzer.trace.counters import CounterFile, Joined

WANTED = {
    "bytes_dram_counter": "DRAM bytes",
    "bytes_l2_sm_counter": "bytes from L2",
    "l2_hit_pct": "L2 hits",
    "l1_hit_pct": "L1 hits",
    "occupancy_achieved_pct": "achieved occupancy",
    "tensor_active_pct": "tensor-pipe use",
}
"""The quantities of COUNTED that a report shows of every kernel, and what they are called in a list."""

_FOREIGN = (
    "bytes_dram_read_counter", "bytes_dram_write_counter", *WANTED, "bytes_sm_l2_counter", "bytes_l2_fill_counter",
    "occupancy_ncu_pct",
)  # fmt: skip
_TAKES = 88
"""Columns of a line of the listing."""


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """The counters that belong to a trace: the file and its match to the launches, or why it cannot be read."""

    file: CounterFile | None = None
    joined: Joined | None = None
    error: str = ""


def counter_support(found: Counted, ranges: int, recorded: CounterFacts | None) -> Capability:
    """Return how far a GPU trace has hardware counters.

    ``ranges``: ``cuda_profiler_range`` events of an old trace. ``recorded``: what ``run.json`` says of the counters.
    """
    lacking = "DRAM bytes are modelled; no cache hits, no achieved occupancy"
    if error := found.error or (found.file.refused if found.file is not None else ""):
        return Capability("counters", "no", f"a file of counters is there and cannot be read: {error.rstrip('.')}", lacking, 0)
    if found.file is not None and found.joined is not None and found.file.kind != "ranges":
        return _of_file(found.file, found.joined, lacking)
    if ranges:
        detail = f"{count(ranges)} cuda_profiler_range events; their durations are no kernel times"
        return Capability("counters", "yes", detail, count=ranges)
    why = f"none: {recorded.reason.rstrip('.')}" if recorded is not None and recorded.reason else "none"
    return Capability("counters", "no", why, lacking, 0)


def _of_file(file: CounterFile, joined: Joined, lacking: str) -> Capability:
    rows = len(file.rows)
    tool = f" by {file.tool}" if file.tool else ""
    said = f"{file.name}: {counted(rows, 'launch', 'launches')} counted{tool}"
    if joined.refused:
        detail = f"{said}, not used: {joined.refused.rstrip('.')}"
        return Capability("counters", "partly", detail, lacking, 0, rows)
    absent = [words for quantity, words in WANTED.items() if not has_quantity(quantity, file.metrics)]
    detail = f"{said}, {count(joined.used)} matched, for {percent_of_time(joined.matched_pct)} of kernel time"
    if not absent:
        return Capability("counters", "yes", detail, count=joined.used, total=rows)
    return Capability("counters", "partly", detail, f"not in the file: {', '.join(absent)}", joined.used, rows)


def has_quantity(quantity: str, metrics: tuple[str, ...]) -> bool:
    """Tell whether ``metrics`` hold all that a quantity of COUNTED is made of."""
    there = set(metrics)
    return any(
        (set(c.sum) <= there if c.sum else bool(set(c.any) & there)) and set(c.over) <= there for c in named.names_of(quantity)
    )


def metrics_for(capability: str | None) -> tuple[str, ...]:
    """Return the metrics of ``ncu`` that a report can use on a compute capability; where not known, those of most GPUs."""
    known = {name for group in named.groups(capability or "") for name in group} | set(named.launch_metrics())
    if not named.groups(capability or ""):
        return METRICS
    chosen = dict.fromkeys(named.anchors())
    for quantity in _FOREIGN:
        for candidate in named.names_of(quantity):
            names = (*candidate.sum, *(name for name in candidate.any if name in known), *candidate.over)
            if names and all(name in known for name in names):
                chosen.update(dict.fromkeys(names))
                break
    return tuple(chosen)


def counting(capability: str | None, beside: str) -> str:
    """Return the commands that count the kernels of a program of one's own, as lines for a shell.

    ``beside``: the name under which the result is found: ``counters.csv`` in a run directory, ``NAME.counters.csv`` by a trace.
    The program is run once per pass (application replay), so that nothing is saved, restored or repeated between kernels and
    caches are as the kernel before left them (Nsight Compute, Kernel Profiling Guide, Replay; not tried on a GPU by us).
    """
    lines = (
        "# PROGRAM.py: the same model, batch and settings; 10 iterations to warm up, then exactly one:",
        "#   torch.cuda.synchronize(); torch.cuda.profiler.start()",
        "#   model(batch)",
        "#   torch.cuda.synchronize(); torch.cuda.profiler.stop()",
    )
    return "\n".join((
        *lines, *_assigned(metrics_for(capability)),
        "ncu --target-processes all --profile-from-start off \\",
        "  --replay-mode application --app-replay-match grid --cache-control none --clock-control none \\",
        "  --metrics $M -f -o counters python PROGRAM.py",
        "ncu --import counters.ncu-rep --csv --page raw --print-units base \\",
        f"  --print-kernel-base demangled > {beside}",
    ))  # fmt: skip


def _assigned(metrics: tuple[str, ...]) -> list[str]:
    """Return a list of metrics as assignments to ``M``, none of them longer than a line."""
    lines: list[str] = []
    for name in metrics:
        if lines and len(lines[-1]) + len(name) < _TAKES:
            lines[-1] += f",{name}"
        else:
            lines.append(f"M=$M,{name}" if lines else f"M={name}")
    return lines
