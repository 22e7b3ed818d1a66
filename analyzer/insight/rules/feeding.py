"""Findings on how data reaches the device: copies from pageable memory, and waiting for the data loader."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.insight.rules.selection import count_fact, idle_of, per, shown
from analyzer.insight.rules.statement import WORTH_PCT, fact, saving, step_us, steps_of
from analyzer.insight.verdict import waiting_pct
from analyzer.metrics.idle import split_idle
from analyzer.metrics.timing import Stretches, intersect, length_ns, merge, subtract
from analyzer.schema.evidence import Evidence
from analyzer.schema.findings import Fact, Finding
from analyzer.schema.results import Analysis

LOADING_PCT = 5.0
"""Waiting for data below this share of a step is what fetching a ready batch costs."""
OF_BUSY_PCT = 5.0
"""Copies of this share of the time with work on the GPU are worth a word, however long the GPU is idle besides."""
TO_DEVICE = ("HtoD", "HostToDevice")
NAME_LENGTH = 200
"""Characters of the name of a copy that are looked at: Kineto's own are shorter."""

Ints = npt.NDArray[np.int64]

_M, _D = Evidence.MEASURED, Evidence.DERIVED


def pageable_copies(a: Analysis) -> Finding | None:
    """Return that copies from pageable host memory hold up a device on which no kernel runs meanwhile.

    Worth a finding is a share of the step, or of the time with work on the device: a long idle time must not hide them. The
    saving lies between nothing and all of that time: pinned memory makes copies faster and lets them run beside kernels.
    """
    copies = a.launches[a.launches["category"].eq("memcpy")]
    pageable = {name: _is_pageable(str(name)[:NAME_LENGTH]) for name in copies["kernel"].unique()}
    rows = copies[copies["kernel"].map(pageable).astype(bool)]
    copying, computing = _covered(rows), _covered(a.launches[a.launches["category"].eq("kernel")])
    alone = length_ns(subtract(copying, computing)) / 1e3 / steps_of(a)
    length = float(rows["dur_ns"].sum()) / 1e3
    busy = a.totals.busy_us / steps_of(a)
    if length <= 0 or (100 * alone < WORTH_PCT * step_us(a) and 100 * alone < OF_BUSY_PCT * busy):
        return None
    spent = fact("time of these copies with no kernel beside them", alone, "us", _D)
    number = count_fact(a, len(rows), "copies")
    share = fact("share of the time", min(100 * alone / step_us(a), 100.0), "%", _D)
    part = fact("share of the time with work on the GPU", min(100 * alone / busy, 100.0) if busy else math.nan, "%", _D)
    facts: tuple[Fact, ...] = (spent, share, part, number)
    text = (
        f"For {shown(spent)} {per(a)} ({shown(share)} of the time) copies from pageable host memory run on the GPU, and no "
        f"kernel. That is {shown(part)} of the time in which the GPU has work."
    )
    size = float(rows["copy_bytes"].fillna(0).sum())
    if size > 0:
        moved = fact("bytes copied", size / steps_of(a), "bytes", _M)
        rate = fact("rate of these copies", size / length / 1e3, "GB/s", _D)
        facts += (moved, rate)
        text += f" Such copies {per(a)}: {shown(number)}, with {shown(moved)}, at {shown(rate)}."
    once = "" if a.window.batches else " What is copied only once, such as the weights of a model, costs later steps nothing."
    return Finding(
        "pageable_copies",
        a.run.name,
        f"Copies from pageable memory with no kernel beside them take {shown(part)} of the time with work on the GPU",
        f"{text} The driver first copies such memory to a buffer of its own. From pinned memory a copy is usually faster, and "
        f"with non_blocking it can run beside kernels.{once}",
        facts,
        saving(a, 0.0, alone, alone),
        step_us(a),
        "a small change",
        "A run with pin_memory and non_blocking copies in which the GPU computes no earlier.",
        "busy",
    )


def _is_pageable(name: str) -> bool:
    return "Pageable" in name and any(way in name for way in TO_DEVICE)


def _covered(rows: pd.DataFrame) -> Stretches:
    start = rows["start_ns"].to_numpy(np.int64)
    return merge(start, start + rows["dur_ns"].to_numpy(np.int64))


def data_loading(a: Analysis) -> Finding | None:
    """Return that steps wait for the data loader while the device does nothing.

    Counted are only moments in which neither a kernel nor a copy runs and the host is in no call of the runtime. The saving
    lies between nothing (the loader may be at its limit) and that time. On a GPU it is at most the idle time in which the host
    waits for its loader, on a CPU the time between operators, and never more than the step leaves without the profiler. Where
    the trace does not divide into steps, loading before the first kernel is start-up, and after the last one it serves no
    kernel: then the idle time between the first and the last kernel, less that of launches on their way, bounds it too.
    """
    if a.host is None or "dataloader_us" not in a.host.steps.columns:
        return None
    waiting = float(a.host.steps["dataloader_us"].sum()) / steps_of(a)
    most = min(waiting, _loading_us(a) / steps_of(a), waiting_pct(a) / 100 * step_us(a))
    if not 100 * most >= LOADING_PCT * step_us(a):
        return None
    edges, text = _at_the_ends(a)
    on_gpu = a.device.type == "cuda"
    spent = fact("time in the data loader, nothing else running", waiting, "us", _M)
    share = fact("share of the time", min(100 * waiting / step_us(a), 100.0), "%", _D)
    return Finding(
        "data_loading",
        a.run.name,
        f"The {'GPU' if on_gpu else 'run'} waits for the data loader",
        f"For {shown(spent)} {per(a)} ({shown(share)} of the time) the host waits for data and "
        f"{'nothing runs on the GPU' if on_gpu else 'no operator runs'}. {text}More workers, prefetching, or cheaper "
        "decoding may shorten it.",
        (spent, share, *edges),
        saving(a, 0.0, most, most),
        step_us(a),
        "a setting",
        "A run that feeds one batch from memory again and again and takes as long.",
        "host",
    )


def _loading_us(a: Analysis) -> float:
    """Return the most that the loader can have held up in the window, in µs."""
    if a.totals.idle is None:
        return a.totals.idle_us
    ends = _first_and_last(a)
    if ends is None:
        return a.totals.idle.loader_us
    inside = intersect(idle_of(a), (ends[:1], ends[1:]))
    none = np.zeros(0, np.int64), np.zeros(0, np.int64)
    return min(a.totals.idle.loader_us, split_idle(inside, a.launches, none, none).host_us)


def _first_and_last(a: Analysis) -> Ints | None:
    """Return the start of the first and the end of the last kernel in ns; None where steps say what belongs to them."""
    rows = a.launches[a.launches["category"].eq("kernel")]
    if a.window.batches or rows.empty:
        return None
    return np.array([rows["start_ns"].min(), (rows["start_ns"] + rows["dur_ns"]).max()], np.int64)


def _at_the_ends(a: Analysis) -> tuple[tuple[Fact, ...], str]:
    """Return how long the trace lasts before its first and after its last kernel, and the sentence on it."""
    ends = _first_and_last(a)
    if ends is None:
        return (), ""
    before = fact("time before the first kernel", max(float(ends[0]) - a.window.start_ns, 0.0) / 1e3, "us", _M)
    after = fact("time after the last kernel", max(a.window.end_ns - float(ends[1]), 0.0) / 1e3, "us", _M)
    return (before, after), (
        f"The trace has {shown(before)} before its first kernel and {shown(after)} after its last one; loading there is in "
        "this time, but the saving counts no time there. "
    )
