"""Matches counted launches to those of a trace: normalised name, grid and block, in order, by sequence alignment.

Nsight Compute runs one kernel at a time in the order of their launches, so the launches of the trace are taken in that order.
Copies and fills are no kernels and are never counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.format import count, digits, fixed
from analyzer.schema.counters import REFUSED_BELOW_PCT
from analyzer.trace.counters.alignment import Int64, align
from analyzer.trace.counters.file import CounterFile
from analyzer.trace.counters.keys import TIERS, Keys, make_keys
from analyzer.trace.counters.names import name_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

DURATION = "gpu__time_duration.sum"
_DIFFERENT = 0.1
"""Two passes over the same launches whose durations differ by more than this share ran under different conditions."""

_MAX_GROUPS = 64
_MAX_SHOWN = 90
_TOLD_PCT = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """The metrics of ``CounterFile.metrics`` per launch of a trace (same index, NaN where not matched), and how far it went.

    ``used`` rows of the file have a launch; ``matched_pct`` of the kernel time has counters: of the kernels in steps, where the
    trace has steps. ``matching`` says in words how names were compared; ``refused`` why ``values`` is all NaN, empty where it
    is not.
    """

    values: pd.DataFrame
    used: int
    matched_pct: float
    matching: str
    refused: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Sequence:
    """Launches in order: the ``rows`` of a table, all of one device."""

    rows: Int64


@dataclass(frozen=True, slots=True, eq=False)
class _Match:
    """What one process matched: ``row_of`` each launch (position in the table) its row of the file, -1 without."""

    process: str
    row_of: Int64
    time_ns: int
    how: str


@dataclass(slots=True, eq=False)
class _Task:
    """What is matched, prepared once: the kernels of the trace by device, and in each device by step."""

    file: CounterFile
    launches: pd.DataFrame
    kernel: npt.NDArray[np.bool_]
    base: npt.NDArray[np.bool_]
    dur_ns: Int64
    devices: list[_Sequence]
    steps: list[list[_Sequence]]
    counted: dict[str, list[_Sequence]]
    notes: list[str] = field(default_factory=list)

    @property
    def base_ns(self) -> int:
        """Return the kernel time that a match is a share of."""
        return int(self.dur_ns[self.base].sum())


def join(file: CounterFile, launches: pd.DataFrame) -> Joined:
    """Return the counters of ``launches``, a table LAUNCHES.

    Columns read: ``category, kernel, grid, block, launch_ns, start_ns, dur_ns, step, device``.

    Names are compared whole first, then without template arguments, then by their last part: the first that matches
    REFUSED_BELOW_PCT of the kernel time is used. A process of the file is a sequence of its own, aligned with the whole trace
    and with each traced step, whichever matches more; one below the limit is left out. A metric comes from the process that
    matched best among those that have it.
    """
    task = _prepare(file, launches)
    if file.refused or not len(file.rows) or not task.base_ns:
        why = file.refused or ("the file holds no counted launch" if not len(file.rows) else "the trace has no kernels")
        return _none(task, why)
    best: tuple[Keys, list[_Match]] | None = None
    for tier in range(len(TIERS)):
        keys = make_keys(file.rows, launches, task.kernel, tier)
        matches = sorted((_match(task, keys, process) for process in task.counted), key=lambda m: -m.time_ns)
        if best is None or matches[0].time_ns > best[1][0].time_ns:
            best = keys, matches
        if _share(task, matches[0]) >= REFUSED_BELOW_PCT:
            return _joined(task, keys, matches)
    assert best is not None
    return _refuse(task, *best)


def _prepare(file: CounterFile, launches: pd.DataFrame) -> _Task:
    kernel = (launches["category"] == "kernel").to_numpy(bool)
    step, device = (launches[column].to_numpy(np.int64) for column in ("step", "device"))
    launch_ns, start_ns = launches["launch_ns"].to_numpy(np.int64), launches["start_ns"].to_numpy(np.int64)
    order = np.lexsort((start_ns, np.where(launch_ns >= 0, launch_ns, start_ns)))
    order = order[kernel[order]]
    stepped = kernel & (step >= 0)
    devices = [order[device[order] == number] for number in np.unique(device[kernel])]
    counted: dict[str, list[_Sequence]] = {}
    pair, _ = pd.factorize(file.rows["process"] + "\0" + file.rows["device"])
    for number in range(int(pair.max(initial=-1)) + 1):
        rows = np.flatnonzero(pair == number)
        counted.setdefault(str(file.rows["process"].iloc[rows[0]]), []).append(_Sequence(rows))
    task = _Task(
        file=file,
        launches=launches,
        kernel=kernel,
        base=stepped if stepped.any() else kernel,
        dur_ns=launches["dur_ns"].to_numpy(np.int64),
        devices=[_Sequence(rows) for rows in devices],
        steps=[[_Sequence(rows[step[rows] == s]) for s in np.unique(step[rows]) if s >= 0] for rows in devices],
        counted=dict(list(counted.items())[:_MAX_GROUPS]),
    )
    if len(counted) > _MAX_GROUPS:
        task.notes.append(f"Only the first {_MAX_GROUPS} of {len(counted)} processes were looked at.")
    return task


def _match(task: _Task, keys: Keys, process: str) -> _Match:
    """Return the match of a process: each device of the trace with the device of the process that fits it best."""
    known: dict[tuple[int, bytes], tuple[Int64, Int64]] = {}
    taken: set[int] = set()
    row_of, hows, total = np.full(len(task.launches), -1, np.int64), [], 0
    for number, device in enumerate(task.devices):
        best: tuple[int, Int64, str, int] = (-1, row_of, "", -1)
        for at, counted in _by_device(task, process, device, taken):
            for parts, how in ((([device]), "the whole trace"), (task.steps[number], "each step")):
                found = np.full(len(task.launches), -1, np.int64)
                for part in parts:
                    traced = keys.traced[part.rows]
                    key = at, traced.tobytes()
                    if key not in known:
                        known[key] = align(keys.counted[counted.rows], traced, keys.weight)
                    rows, columns = known[key]
                    found[part.rows[columns]] = counted.rows[rows]
                time_ns = int(task.dur_ns[task.base & (found >= 0)].sum())
                if time_ns > best[0]:
                    best = time_ns, found, how, at
        row_of = np.where(best[1] >= 0, best[1], row_of)
        taken.add(best[3])
        hows.append(best[2])
        total += max(best[0], 0)
    return _Match(process, row_of, total, hows[0] if hows else "")


def _by_device(task: _Task, process: str, device: _Sequence, taken: set[int]) -> Iterator[tuple[int, _Sequence]]:
    """Yield (number, sequence) of those devices of a process that no device of the trace has, that of equal number first."""
    number = str(task.launches["device"].iloc[int(device.rows[0])]) if len(device.rows) else ""
    free = [(at, counted) for at, counted in enumerate(task.counted[process]) if at not in taken]
    yield from sorted(free, key=lambda one: str(task.file.rows["device"].iloc[int(one[1].rows[0])]) != number)


def _share(task: _Task, match: _Match) -> float:
    return 100.0 * match.time_ns / task.base_ns


def _joined(task: _Task, keys: Keys, matches: list[_Match]) -> Joined:
    """Return the values of those matches that reach the limit."""
    good = [match for match in matches if _share(task, match) >= REFUSED_BELOW_PCT]
    values: dict[str, npt.NDArray[np.float64]] = {}
    for metric in task.file.metrics:
        column = task.file.rows[metric].to_numpy(np.float64)
        values[metric] = np.full(len(task.launches), np.nan)
        for match in good:
            has = match.row_of >= 0
            if np.isfinite(column[match.row_of[has]]).any():
                values[metric][has] = column[match.row_of[has]]
                break
    used = np.unique(np.concatenate([match.row_of[match.row_of >= 0] for match in good]))
    notes = [
        *task.notes,
        *_other_templates(task, good),
        *_left_out(task, matches, good),
        *_unused(task, good, len(used)),
        *_disagreements(task, good),
    ]
    frame = pd.DataFrame(values, index=task.launches.index)
    matching = f"{keys.words}, in the order of their launches, against {good[0].how}"
    return Joined(frame, len(used), min(_share(task, good[0]), 100.0), matching, notes=tuple(notes))


def _other_templates(task: _Task, good: list[_Match]) -> Iterator[str]:
    """Yield how much was matched between kernels whose template arguments are told on both sides and differ."""
    row_of = good[0].row_of
    pairs = np.flatnonzero(row_of >= 0)
    counted = task.file.rows["kernel"].to_numpy(object)[row_of[pairs]]
    traced = task.launches["kernel"].to_numpy(object)[pairs]
    told = {
        (one, two): "<" in one and "<" in two and name_keys(one)[0] != name_keys(two)[0]
        for one, two in set(zip(map(str, counted), map(str, traced), strict=True))
    }
    other = np.array([told[str(one), str(two)] for one, two in zip(counted, traced, strict=True)], bool)
    share = 100.0 * int(task.dur_ns[pairs[other]].sum()) / task.base_ns
    if other.any() and share >= _TOLD_PCT:
        example = next(pair for pair, differs in told.items() if differs)
        yield (
            f"Kernels of {_pct(min(share, 100.0))} of the kernel time match by name, grid and block and have other template "
            f"arguments, so they may be other kernels (of another element type or tile): {_cut(example[0])} was "
            f"counted for {_cut(example[1])}."
        )


def _cut(name: str) -> str:
    return name if len(name) <= _MAX_SHOWN else f"{name[:_MAX_SHOWN]}..."


def _left_out(task: _Task, matches: list[_Match], good: list[_Match]) -> Iterator[str]:
    for match in matches[len(good) :]:
        share = _share(task, match)
        told = f"matches {_pct(share)} of the kernel time" if match.time_ns else "matches no kernel of the trace"
        yield f"{_named(task, match)} {told}. Its counters are left out."


def _unused(task: _Task, good: list[_Match], used: int) -> Iterator[str]:
    rows = sum(len(sequence.rows) for match in good for sequence in task.counted[match.process])
    if used < rows:
        yield f"{count(rows - used)} of {count(rows)} counted launches have none in the trace and were not used."


def _disagreements(task: _Task, good: list[_Match]) -> Iterator[str]:
    """Yield which processes took another time over the same launches than the one that matched best."""
    if DURATION not in task.file.metrics:
        return
    column = task.file.rows[DURATION].to_numpy(np.float64)
    anchor = good[0]
    for match in good[1:]:
        both = (anchor.row_of >= 0) & (match.row_of >= 0)
        one, two = column[anchor.row_of[both]], column[match.row_of[both]]
        timed = (one > 0) & (two > 0)
        if not timed.any():
            continue
        ratio = float(np.median(two[timed] / one[timed]))
        if abs(ratio - 1) > _DIFFERENT:
            longer = f"{_named(task, match)} took {digits(ratio)} x as long over the same kernels"
            yield f"{longer} as {_named(task, anchor).lower()}. The two counted under different conditions."


def _named(task: _Task, match: _Match) -> str:
    """Return what a sequence is called: the groups of our own pass ran one after the other."""
    return f"{'Pass' if task.file.kind == 'ncu' else 'Process'} {match.process}".rstrip()


def _pct(share: float) -> str:
    """Return a share rounded down, so that none below the limit looks like the limit."""
    return f"{fixed(math.floor(10 * share) / 10, 1)} %"


def _refuse(task: _Task, keys: Keys, matches: list[_Match]) -> Joined:
    share = min(_share(task, matches[0]), 100.0)
    limit = f"the counters match {_pct(share)} of the kernel time, and {count(REFUSED_BELOW_PCT)} % are needed"
    return replace(_none(task, f"{limit}; {_first_mismatch(task, matches[0])}"), matched_pct=share, matching=keys.words)


def _none(task: _Task, why: str) -> Joined:
    empty = {metric: np.full(len(task.launches), np.nan) for metric in task.file.metrics}
    values = pd.DataFrame(empty, index=task.launches.index)
    return Joined(values, 0, 0.0, "", refused=why, notes=tuple(task.notes))


def _first_mismatch(task: _Task, match: _Match) -> str:
    """Return in words which kernel of the trace is the first without counters, and which launch was counted in its place."""
    inside = [rows for device in task.devices if len(rows := device.rows[task.base[device.rows]])]
    ordered = inside[0] if inside else task.devices[0].rows
    free = np.flatnonzero(match.row_of[ordered] < 0)
    if not len(free):
        return "it is not known where they part"
    at = int(free[0])
    launch = task.launches.iloc[int(ordered[at])]
    counted = np.concatenate([sequence.rows for sequence in task.counted[match.process]])
    before = match.row_of[ordered[:at]]
    row = int(before[-1]) + 1 if at else int(counted[0])
    here = f"kernel {at + 1} of the trace is {_words(launch)}"
    if row > int(counted.max()):
        return f"{here}, and nothing was counted after the {len(counted)} launches before it"
    return f"{here}, and the launch counted there is {_words(task.file.rows.iloc[row])}"


def _words(row: pd.Series[str]) -> str:
    name = str(row["kernel"])
    short = name if len(name) <= _MAX_SHOWN else f"{name[:_MAX_SHOWN]}..."
    shape = [f"{role} {row[role]}" for role in ("grid", "block") if row[role]]
    return f"{short} ({', '.join(shape)})" if shape else short
