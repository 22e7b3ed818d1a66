"""Findings on memory: kernels that DRAM holds up, what fits the L2, and what the peak is made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from analyzer.insight.counters import all_counted, is_counted
from analyzer.insight.rules.selection import named, per, shown, worker
from analyzer.insight.rules.statement import WORTH_PCT, fact, step_us, steps_of
from analyzer.metrics.counters.sums import RUN_BYTES
from analyzer.schema.evidence import Evidence
from analyzer.schema.findings import Fact, Finding
from analyzer.schema.profile import MemoryProfile
from analyzer.schema.results import Analysis
from analyzer.schema.tables import records

AT_DRAM_PCT = 60.0
"""Above this share of the bandwidth a kernel has little left to gain: copies of one's own reach 80 to 92 % of a datasheet."""
FITTING_PCT = 50.0
"""Most of the time has to be in kernels whose output fits, before it is a property of the run."""
PEAK_PCT = 30.0
"""Attention scores of this share of the peak are worth a look; below it no single change lowers the peak much."""
HELD_PCT = 50.0
"""One operator with this share of what comes and goes is worth a look: the input and the output of one large layer are two
tensors that are held at once, so that a third or more in one of them is how any model runs."""

_GOES = "the memory that comes and goes in a step"

_M, _D, _MOD = Evidence.MEASURED, Evidence.DERIVED, Evidence.MODELLED


def depthwise_at_dram(a: Analysis) -> Finding | None:
    """Return that depthwise convolutions run near the bandwidth of memory, so that only fewer bytes make them faster.

    Bytes are those that hardware counters saw. Without counters they are the low end of the access model's DRAM traffic where
    it has one, else the compulsory bytes: both understate it.
    """
    limit = next((found.figure for found in a.limits if found.name == "bandwidth used for floors"), None)
    rows = a.launches[a.launches["kind"].eq("depthwise") & a.launches["bytes_compulsory"].gt(0)]
    time = float(rows["exclusive_us"].sum())
    if limit is None or limit.value is None or 100 * time / steps_of(a) < WORTH_PCT * step_us(a):
        return None
    modelled, counts = rows["bytes_dram_low"].fillna(rows["bytes_compulsory"]), all_counted(rows, RUN_BYTES)
    size = float((rows[RUN_BYTES].fillna(modelled) if counts else modelled).sum())
    level = _M if counts else _MOD
    rate = size / time / 1e3
    reached = 100 * rate / limit.value
    if not AT_DRAM_PCT <= reached <= 100:
        return None
    spent = fact("time of depthwise convolutions", time / steps_of(a), "us", _M)
    moved = fact("bytes that they move", size / steps_of(a), "bytes", level)
    speed = fact("bandwidth that they reach", rate, "GB/s", _D if counts else _MOD)
    most = fact("bandwidth of the device", limit.value, "GB/s", limit.evidence)
    share = fact("share of that bandwidth", reached, "%", _D if counts else _MOD)
    return Finding(
        "depthwise_at_dram",
        a.run.name,
        "Depthwise convolutions run at the speed of memory",
        f"They take {shown(spent)} {per(a)} and move {shown(moved)}: {shown(speed)} of {shown(most)}, or {shown(share)}. More "
        "arithmetic per second would not help. Only fewer bytes would: a smaller number format, or fusing them with what "
        "comes next.",
        (spent, moved, speed, most, share),
        None,
        step_us(a),
        "none",
        "A device with more memory bandwidth on which they take as long as here."
        if counts
        else "Hardware counters that show much less traffic through DRAM than the bytes above, at the same time.",
        "memory" if a.access is None else "access",
        "note",
    )


def l2_resident(a: Analysis) -> Finding | None:
    """Return that most kernels write outputs that the last-level cache can keep, and at which batch the largest would not fit.

    Batch that still fits: images x cache / largest output, rounded down. A cache in two halves that keep their own copies
    counts with one half.

    Approximation: only the output of a kernel has to stay in the cache until the next one; weights and other inputs pass by.
    """
    own, access = (a.access.own, a.access) if a.access else (None, None)
    if own is None or access is None or access.batch_size < 1 or access.silent:
        return None
    ran = [p for p in access.patterns if not p.hypothetical and p.time_us > 0 and math.isfinite(p.write_bytes)]
    room = own.capacity_bytes / own.partitions
    time, fits = np.array([p.time_us for p in ran]), np.array([p.write_bytes <= room for p in ran], bool)
    largest = max((p.write_bytes for p in ran), default=0.0)
    if not largest or 100 * float(time[fits].sum()) < FITTING_PCT * float(time.sum()):
        return None
    one, many = worker(a)[:-1], worker(a)
    article = "a" if one == "kernel" else "an"
    given = Evidence.SPEC if a.device.type == "cuda" else _M
    cache = fact("cache", room, "bytes", _D if own.partitions > 1 else given)
    batch = fact("batch size", access.batch_size, "count", _M)
    output = fact(f"largest output of {article} {one}", largest, "bytes", _MOD)
    each = fact("that output per image", largest / access.batch_size, "bytes", _MOD)
    share = fact(f"time in {many} whose output fits", 100 * float(time[fits].sum()) / float(time.sum()), "%", _MOD)
    top = math.floor(access.batch_size * room / largest)
    last = fact("largest batch at which every output fits", top, "count", _MOD)
    name = "L2" if a.device.type == "cuda" else "last-level cache"
    part = f"Each half of the {name} holds" if own.partitions > 1 else f"The {name} holds"
    if top >= access.batch_size:
        fate = f"all outputs fit up to a batch of {shown(last)}. Times per image at this batch do not carry over to larger ones"
    else:
        fate = f"all would fit at a batch of {shown(last)}" if top else "not all would fit at any batch"
    return Finding(
        "l2_resident",
        a.run.name,
        f"Most data between {many} fits the {name}",
        f"{part} {shown(cache)}. At a batch of {shown(batch)} the largest output of {article} {one} is {shown(output)} "
        f"({shown(each)} per image); {shown(share)} of the time of all {many} with an access model is in {many} whose output "
        f"fits. So the next {one} can read it from the cache and not from DRAM: {fate}.",
        (cache, batch, output, each, share, last),
        None,
        step_us(a),
        "none",
        "The counted DRAM bytes in section Counters, where they are no less than the compulsory bytes beside them."
        if is_counted(a, RUN_BYTES)
        else f"Hardware counters that show the next {one} reading its input from DRAM at this batch.",
        "access",
        "note",
    )


def memory_peak(a: Analysis) -> Finding | None:
    """Return what a large part of the peak memory is made of.

    From the allocator's events: the module and operator with the most bytes at the peak, against the transient bytes of the
    step that holds the peak. What is held at the peak beyond these bytes is older than the step (weights, for one) and may be
    this operator's, so it is taken off. Silent where no step holds the peak: then nothing tells what stays. A block larger than
    all that a call of the operator reads and writes is told as a workspace. Without events: the largest matrix of attention
    scores that was written out, against the recorded peak.
    """
    return _held(a) if a.memory else _scores(a)


def _held(a: Analysis) -> Finding | None:
    profile = max(a.memory, key=lambda found: found.peak_bytes)
    if profile.at_peak.empty or not profile.transient_bytes > 0:
        return None
    if not any(start <= profile.peak_ns <= end for _, start, end in a.steps):
        return None
    top = max(records(profile.at_peak, "module", "op", "bytes", "blocks"), key=lambda row: row.bytes)
    older = max(float(profile.at_peak["bytes"].sum()) - profile.transient_bytes, 0.0)
    held = min(float(top.bytes) - older, profile.transient_bytes)
    if 100 * held < HELD_PCT * profile.transient_bytes:
        return None
    size = fact("bytes of one operator at the peak", float(top.bytes), "bytes", _M)
    blocks = fact("blocks", float(top.blocks), "count", _M)
    moving = fact("bytes that come and go within a step", profile.transient_bytes, "bytes", _D)
    share = fact("least share of these" if older else "share of these", 100 * held / profile.transient_bytes, "%", _D)
    where = f"the operator {named(str(top.op))}" if top.op else "an operator that the trace does not name"
    where += f" in {named(str(top.module))}" if top.module else ""
    noun = "block" if top.blocks == 1 else "blocks"
    peak = fact("peak", profile.peak_bytes, "bytes", _M)
    workspace = _workspace(a, profile, top)
    advice = (
        _workspace_text(workspace)
        if workspace
        else "Splitting its work or freeing it earlier lowers the peak by that much at most."
    )
    above = "" if profile.is_absolute else " above what was held before the recording"
    return Finding(
        "memory_peak",
        a.run.name,
        f"{'A workspace makes up' if workspace else 'One operator holds'} much of {_GOES}",
        f"At the peak of {shown(peak)}{above}, {where} holds {shown(size)} in {shown(blocks)} {noun}, "
        f"{'at least ' if older else ''}{shown(share)} of the {shown(moving)} that come and go within a step. {advice}",
        (size, blocks, moving, share, peak, *workspace),
        None,
        step_us(a),
        "none",
        "A run on half of the batch in which this block is half as large."
        if workspace
        else "A run with this operator on half of the batch whose peak is as high as now.",
        "memory",
        "note",
    )


def _workspace(a: Analysis, profile: MemoryProfile, top: Any) -> tuple[Fact, ...]:
    """Return the size of the largest block that ``top`` can hold, how often such a block was allocated, and what a call moves.

    Nothing where that block may be an input or output of its operator: where it is no larger than the compulsory bytes of a
    call, or where these are not known.
    """
    mine = a.launches[a.launches["op"].eq(top.op) & a.launches["module"].eq(top.module)]
    moved = float(mine.groupby("owner")["bytes_compulsory"].sum(min_count=1).max())  # a call may launch several kernels
    steps = np.diff(profile.curve["allocated_bytes"].to_numpy(np.float64))
    fitting = steps[(steps > 0) & (steps <= float(top.bytes))]
    # what its other blocks can hold at most must leave the largest one above what a call moves
    if not len(fitting) or not float(top.bytes) - (float(top.blocks) - 1) * moved > moved:
        return ()
    largest = float(fitting.max())
    if not largest > moved:
        return ()
    return (
        fact("largest block", largest, "bytes", _M),
        fact("blocks of that size in the trace", int((fitting == largest).sum()), "count", _M),
        fact("bytes that a call must read and write", moved, "bytes", _MOD),
    )


def _workspace_text(found: tuple[Fact, ...]) -> str:
    block, times, moved = map(shown, found)
    return (
        f"One block has {block}, more than the {moved} that a call of it must read and write, so it is no input or output but "
        f"most likely the workspace of a library. Blocks of that size allocated in the trace: {times}."
    )


def _scores(a: Analysis) -> Finding | None:
    recorded = a.run.facts.memory if a.run.facts else None
    written = [p for p in (a.access.patterns if a.access else ()) if p.pattern == "scores" and not p.hypothetical]
    largest = max((p.write_bytes for p in written), default=0.0)
    if recorded is None or recorded.peak_bytes <= 0 or 100 * largest < PEAK_PCT * recorded.peak_bytes:
        return None
    size = fact("largest attention scores", largest, "bytes", _MOD)
    peak = fact("peak memory", recorded.peak_bytes, "bytes", _M)
    share = fact("share of the peak", min(100 * largest / recorded.peak_bytes, 100.0), "%", _MOD)
    return Finding(
        "memory_peak",
        a.run.name,
        "Attention scores make up much of the peak memory",
        f"The scores of one attention are written out as {shown(size)}, which is {shown(share)} of the peak of {shown(peak)}. "
        "They grow with the square of the tokens. Fused attention never writes them.",
        (size, peak, share),
        None,
        step_us(a),
        "none",
        "A run with fused attention whose peak is as high as now.",
        "access",
        "note",
    )
