"""Findings about a GPU that waits: for its host, for the start and end of short kernels, inside synchronising calls."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzer.insight.rules.selection import (
    count_fact,
    idle_fact,
    idle_of,
    is_training,
    kernels,
    per,
    per_step_us,
    share_fact,
    share_pct,
    shown,
    time_fact,
    waiting_note,
    waits,
)
from analyzer.insight.rules.statement import compile_mode, fact, saving, step_us, steps_of
from analyzer.insight.verdict import waiting_pct
from analyzer.metrics.memory import LATENCY_US, NAMED_BOUND_SHARE
from analyzer.schema.evidence import Evidence
from analyzer.schema.findings import Fact, Finding
from analyzer.schema.results import Analysis
from analyzer.trace.link import is_replayed

SHORT_PCT = 5.0
"""Short kernels below this share of the kernel time are not worth a change of the program."""
SYNC_PCT = 1.0
"""Below this share of the time, one wait at the end of a step is all that there is, and every loop that is timed has it."""
GRAPH_GAP_US = 1.5
"""What stays between two kernels of a CUDA graph, generously: NVIDIA's first example of graphs (Getting Started with CUDA
Graphs, 2019) shows 3.4 µs per kernel of 2.9 µs."""
GRAPH_START_US = 20.0
"""What stays per step, generously: one launch of the graph and one wait for its end."""
LONG_PAUSE_US = 1000.0
"""A hundred times what a launch takes the host: a longer pause has another reason."""
MOSTLY = 0.5
"""More than this share of the kernels, and they are how the run works; of the idle time, and it is what fills it."""
NOTABLE_PCT = 10.0
"""What fills less of the idle time than this is not told."""
WITH_GRAPHS = ("reduce-overhead", "max-autotune")
"""The modes of torch.compile that put a model into CUDA graphs."""
MEANWHILE = {
    "runtime": "inside calls of the runtime or driver",
    "dataloader": "waiting for a data loader",
    "host": "in operators, outside the runtime and driver",
    "other": "where the trace records nothing",
}
"""The parts of a step (``schema.profile.STEP_PARTS``) in which nothing runs on the GPU, as a sentence on the host has them."""


def host_bound(a: Analysis) -> Finding | None:
    """Return that the GPU is idle while the host prepares its work.

    The saving is the idle time per step at most. At least, it is what a CUDA graph would leave: the part of the idle time that
    waits for the host or for a launch on its way, less 1.5 µs per kernel and 20 µs per step. That is said only of timed
    inference that launched kernel by kernel: tracing slows the host, training has more than launches, and a graph is there.
    Pauses of 1 ms and more are left out of both: no ordinary launch takes that long, and launching less often does not shorten
    them.
    """
    if not waits(a) or not a.totals.kernel_count:
        return None
    idle_us = waiting_pct(a) / 100 * step_us(a)
    timed = a.latency is not None and a.window.batches is not None
    share = idle_fact(a)
    idle = fact("idle time", idle_us, "us", share.figure.evidence)
    busy = fact("time with work on the GPU", a.totals.busy_us / steps_of(a), "us", Evidence.MEASURED)
    launches = kernels(a)
    counts, launched, graphs = _launched(a, launches)
    long_us = _long_pauses_us(a) / a.totals.idle_us * idle_us if a.totals.idle_us else 0.0
    pause = fact("length from which a pause counts as long", LONG_PAUSE_US, "us", Evidence.MODELLED)
    pauses = fact("idle time in long pauses", long_us, "us", share.figure.evidence)
    low = 0.0
    if timed and not graphs and not is_training(a) and a.totals.idle is not None and a.totals.idle_us > 0:
        host = (a.totals.idle.host_us + a.totals.idle.launch_us) / a.totals.idle_us
        low = max(0.0, host * (idle_us - long_us - GRAPH_START_US - GRAPH_GAP_US * len(launches) / steps_of(a)))
    doing = _host_meanwhile(a)
    paused = long_us > MOSTLY * idle_us
    short = fact("share of time in short pauses", 100 * max(idle_us - long_us, 0.0) / step_us(a), "%", share.figure.evidence)
    remedy = _remedy(a, doing, graphs=graphs, paused=paused)
    return Finding(
        rule="host_bound",
        run=a.run.name,
        title=(
            f"Short pauses between kernels take {shown(short)} of the {'untraced' if timed else 'traced'} time"
            if paused
            else f"The GPU is idle for {shown(share)} of the {'untraced' if timed else 'traced'} time"
        ),
        claim=(
            f"The GPU waits {shown(idle)} {per(a)} ({shown(share)} of the time) and has work for {shown(busy)}; the host "
            f"launches {launched} {per(a)}. {_pauses(pause, pauses)}{_told(doing)}{_recorded(a, timed=timed)}{remedy}"
        ),
        facts=(share, idle, busy, *counts, pause, pauses, *((short,) if paused else ()), *doing.values()),
        saving=saving(a, low, idle_us - long_us, idle_us),
        step_us=step_us(a),
        effort="a small change",
        disproof=(
            "Double the batch. If a step then takes about twice as long, the GPU sets the pace and not the host."
            if timed
            else f"Time the same work without the profiler. If it takes little more than {shown(busy)}, the wait was the "
            "profiler's."
        ),
        target="busy",
    )


def _launched(a: Analysis, rows: pd.DataFrame) -> tuple[tuple[Fact, ...], str, bool]:
    """Return what the host launches as facts and in words, and whether graphs bring most of the kernels ``rows``.

    A graph is one launch, however many kernels it holds.
    """
    of_graph = rows["graph_id"].gt(0) | is_replayed(rows)
    if not of_graph.any():
        single = count_fact(a, len(rows), "kernels")
        return (single,), f"{shown(single)} kernels", False
    replayed = rows[of_graph]
    starts = len(replayed[["device", "correlation"]].drop_duplicates())
    single = count_fact(a, len(rows) - len(replayed), "kernels launched one by one")
    graphs, inside = count_fact(a, starts, "graphs launched"), count_fact(a, len(replayed), "kernels in graphs")
    noun = "graph" if graphs.figure.value == 1 else "graphs"
    text = f"{shown(single)} kernels one by one and {shown(graphs)} {noun} with {shown(inside)} kernels"
    return (single, graphs, inside), text, len(replayed) > MOSTLY * len(rows)


def _long_pauses_us(a: Analysis) -> float:
    """Return the idle time in µs that comes in pauses of LONG_PAUSE_US and more; what was not selected is no pause."""
    start, end = idle_of(a)
    gaps = end - start
    return float(gaps[gaps >= 1e3 * LONG_PAUSE_US].sum()) / 1e3


def _pauses(limit: Fact, pauses: Fact) -> str:
    if not pauses.figure.value:
        return f"No pause is longer than {shown(limit)}. "
    return (
        f"Pauses longer than {shown(limit)} make up {shown(pauses)} of the wait; an ordinary launch takes far less than that. "
    )


def _host_meanwhile(a: Analysis) -> dict[str, Fact]:
    """Return what the host does while the GPU is idle, as shares of the traced idle time: the notable ones, largest first."""
    if a.host is None or not a.totals.idle_us:
        return {}
    sums = {part: float(a.host.steps[f"{part}_us"].sum()) for part in MEANWHILE if f"{part}_us" in a.host.steps.columns}
    shares = {part: min(100 * us / a.totals.idle_us, 100.0) for part, us in sums.items()}
    order = sorted((part for part in shares if shares[part] >= NOTABLE_PCT), key=lambda part: -shares[part])
    name = "share of the traced idle time that the host spends"
    return {part: fact(f"{name} {MEANWHILE[part]}", shares[part], "%", Evidence.MEASURED) for part in order}


def _told(doing: dict[str, Fact]) -> str:
    parts = [f"{shown(share)} {MEANWHILE[part]}" for part, share in doing.items()]
    return f"Of the idle time in the trace, the host spends {'; '.join(parts)}. " if parts else ""


def _remedy(a: Analysis, doing: dict[str, Fact], *, graphs: bool, paused: bool) -> str:
    main = next((part for part, share in doing.items() if (share.figure.value or 0.0) > 100 * MOSTLY), "")
    if paused and main == "runtime":
        return (
            "Launching less often shortens only the rest. Calls that take this long usually set up the GPU, load its code or "
            "allocate memory; most of that happens once per process, so record after a warm-up."
        )
    if paused and main == "dataloader":
        return "Launching less often shortens only the rest. Loader processes, or more of them, can fetch batches meanwhile."
    if paused:
        return "Launching less often shortens only the rest. Call stacks (with_stack) tell what the host does in the pauses."
    if graphs:
        return "Most kernels come from CUDA graphs already, so the wait lies between them: prepare the next input meanwhile."
    return _fewer_launches(a)


def _fewer_launches(a: Analysis) -> str:
    larger = "a larger batch gives each launch more work."
    mode = compile_mode(a)
    if mode == "off":
        return f"A CUDA graph or torch.compile launches many kernels at once; {larger}"
    if mode in WITH_GRAPHS:
        return (
            f"The run asked torch.compile for CUDA graphs (compile={mode}), and most kernels were launched one by one all the "
            f"same: TORCH_LOGS=perf_hints tells why. Besides, {larger}"
        )
    return f"The model is compiled already; with compile=reduce-overhead it runs in CUDA graphs as well. Besides, {larger}"


def _recorded(a: Analysis, *, timed: bool) -> str:
    """Return what makes the idle time of a bare trace larger than it is without the profiler."""
    if timed:
        return ""
    text = "The profiler slows the host, so without it the wait is shorter. "
    if a.window.batches is None:
        text += "The trace does not divide into steps, so pauses between steps may be in it. "
    return text


def short_kernels(a: Analysis) -> Finding | None:
    """Return that much of the kernel time goes to kernels so short that starting and ending them dominates.

    Those under 5 µs whose floor is below a third of their time, as the limit "latency" of the page has it.

    The saving is at most their time above the floors of their work; a kernel without a floor counts whole. At least it is 0:
    what replaces them has a start and an end too.
    """
    rows = kernels(a)
    if a.device.type != "cuda" or rows.empty:
        return None
    near = rows["floor_us"] >= NAMED_BOUND_SHARE * rows["dur_ns"] / 1e3  # not so where the floor is not known
    short = rows[(rows["dur_ns"] < 1e3 * LATENCY_US) & ~near]
    if share_pct(a, short) < SHORT_PCT:
        return None
    floor_us = np.nan_to_num(short["floor_us"].to_numpy(np.float64))
    floor = fact("floor of their work", float(floor_us.sum()) / steps_of(a), "us", Evidence.MODELLED)
    limit = fact("length below which a kernel counts as short", LATENCY_US, "us", Evidence.MODELLED)
    count, of = count_fact(a, len(short), "short kernels"), count_fact(a, len(rows), "kernels")
    time, share = time_fact(a, short, "time of short kernels"), share_fact(a, short)
    above = np.maximum(short["exclusive_us"].to_numpy(np.float64) - floor_us, 0.0).sum() / steps_of(a)
    note, more = waiting_note(a)
    return Finding(
        rule="short_kernels",
        run=a.run.name,
        title=f"Kernels under {shown(limit)} take {shown(share)} of the kernel time",
        claim=(
            f"{shown(count)} of {shown(of)} kernels {per(a)} are shorter than {shown(limit)}, without those near the floor of "
            f"their work. They take {shown(time)} together; at the limits of the GPU, what is known of their work needs "
            f"{shown(floor)}. At that length it is starting and ending that takes the time. A larger batch gives each more "
            f"work{_fewer(a)}.{note}"
        ),
        facts=(share, limit, count, of, time, floor, *more),
        saving=saving(a, 0.0, float(above), per_step_us(a, short)),
        step_us=step_us(a),
        effort="a small change",
        disproof="Double the batch. If the time of these kernels doubles too, it is their work that takes it.",
        target="kernels",
    )


def _fewer(a: Analysis) -> str:
    if compile_mode(a) == "off":
        return "; torch.compile makes fewer and longer kernels of them"
    return "; the model is compiled already, so these are what torch.compile left apart"


def synchronising(a: Analysis) -> Finding | None:
    """Return that the GPU is idle while the host waits for it inside a synchronising call.

    The saving is that idle time at most, and no more than the step has without the profiler; at least 0, as the host may have
    nothing to launch earlier.
    """
    idle = a.totals.idle
    if a.device.type != "cuda" or idle is None or not a.totals.wall_us:
        return None
    share = fact("share of the traced time", 100 * idle.sync_us / a.totals.wall_us, "%", Evidence.MEASURED)
    if idle.sync_us < SYNC_PCT / 100 * a.totals.wall_us:
        return None
    time = fact("idle time inside synchronising calls", idle.sync_us / steps_of(a), "us", Evidence.MEASURED)
    most = min(idle.sync_us / steps_of(a), waiting_pct(a) / 100 * step_us(a))
    return Finding(
        rule="synchronising",
        run=a.run.name,
        title=f"Calls that wait for the GPU leave it idle for {shown(share)} of the traced time",
        claim=(
            f"The GPU is idle for {shown(time)} {per(a)} while the host is still inside a call that waits for it, and so "
            "launches nothing. Reading a value (.item(), .cpu(), a printed tensor), boolean indexing and copies from pageable "
            "memory make the host wait."
        ),
        facts=(share, time),
        saving=saving(a, 0.0, most, most),
        step_us=step_us(a),
        effort="a small change",
        disproof=(
            "Call torch.cuda.set_sync_debug_mode with “warn”. If no operator warns, the wait is the loop's own and "
            "belongs to how it was timed."
        ),
        target="busy",
    )
