"""The marks of the roofline: kernels grouped by operator and shape, and the ceilings they stand under."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from analyzer.metrics.limits import ATTAINABLE
from analyzer.report.text import clean, kernel_label, operator_label
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis

MAX_MARKS = 60
NAMED = 6
MATTERS_PCT = 0.1
STRETCH = 10.0


@dataclass(frozen=True, slots=True)
class Mark:
    """One group of kernels. ``time_us`` over the window; ``rank`` is 1.. for the named ones, 0 for the others."""

    run: int
    name: str
    kind: str
    shapes: str
    calls: int
    time_us: float
    share_pct: float
    flop_per_byte: float
    tflops: float
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A limit line: GB/s (slanted) or TFLOP/s (flat). ``runs`` are the runs it holds for."""

    name: str
    value: float
    unit: str
    evidence: Evidence
    runs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Roofline:
    """Everything figure 4 shows.

    ``left_out``: run, rows and share of its kernel time that have no FLOP. ``outside``: marks far below all that matter,
    which are counted and not drawn.
    """

    marks: tuple[Mark, ...]
    ceilings: tuple[Ceiling, ...]
    left_out: tuple[tuple[int, int, float], ...]
    reasons: tuple[str, ...]
    outside: int = 0


def roofline(analyses: tuple[Analysis, ...]) -> Roofline:
    """Return the marks and ceilings of all runs together, at most MAX_MARKS marks."""
    marks: list[Mark] = []
    left_out = []
    for number, a in enumerate(analyses):
        counted = a.kernels[(a.kernels["flop"] > 0) & (a.kernels["bytes_compulsory"] > 0) & (a.kernels["time_us"] > 0)]
        marks += _marks(counted, number, MAX_MARKS // len(analyses))
        rest = len(a.kernels) - len(counted)
        total = float(a.kernels["time_us"].sum())
        share = 100.0 * (1 - float(counted["time_us"].sum()) / total) if total else 0.0
        left_out.append((number, rest, share))
    found = len(marks)
    marks = _in_sight(marks)
    marks.sort(key=lambda mark: -mark.share_pct)
    ranked = tuple(replace(mark, rank=place if place <= NAMED else 0) for place, mark in enumerate(marks, 1))
    floors = ((a, f.figure) for a in analyses for f in a.limits if f.name.endswith("used for floors"))
    reasons = tuple(dict.fromkeys(f"{a.label}: {figure.source}" for a, figure in floors if figure.value is None))
    return Roofline(ranked, _ceilings(analyses), tuple(left_out), reasons, found - len(marks))


def _in_sight(marks: list[Mark]) -> list[Mark]:
    """Return the marks without those that take no time to speak of and would stretch an axis by decades."""
    matter = [mark for mark in marks if mark.share_pct >= MATTERS_PCT] or marks
    slowest = min((mark.tflops for mark in matter), default=0.0) / STRETCH
    thinnest = min((mark.flop_per_byte for mark in matter), default=0.0) / STRETCH
    return [mark for mark in marks if mark in matter or (mark.tflops >= slowest and mark.flop_per_byte >= thinnest)]


def _marks(kernels: pd.DataFrame, run: int, limit: int) -> list[Mark]:
    if kernels.empty:
        return []
    keys = ["kernel", "kind", "op", "shapes", "dtype"]
    sums = ["calls", "time_us", "share_pct", "flop", "bytes_compulsory"]
    groups = kernels.groupby(keys, dropna=False, sort=False)[sums].sum().reset_index()
    groups = groups.sort_values("time_us", ascending=False, kind="stable", ignore_index=True)
    kinds = groups["kind"].nunique()
    kept = groups if len(groups) <= limit else groups.head(max(limit - kinds, 1))
    out = [_mark(row, run) for row in kept.to_dict("records")]
    if len(kept) < len(groups):
        rest = groups.iloc[len(kept) :].groupby("kind", sort=False)
        for kind, rows in rest:
            total = rows[sums].sum().to_dict()
            name = f"{len(rows)} smaller: {kind}"
            out.append(_mark({**total, "kernel": name, "kind": kind, "op": "", "shapes": ""}, run))
    return out


def _mark(row: dict[Any, Any], run: int) -> Mark:
    time, flop = float(row["time_us"]), float(row["flop"])
    size = float(row["bytes_compulsory"])
    op = str(row["op"])
    return Mark(
        run=run,
        name=operator_label(op) if op else kernel_label(str(row["kernel"])),
        kind=str(row["kind"]),
        shapes=clean(str(row["shapes"]), 90),
        calls=int(float(row["calls"])),
        time_us=time,
        share_pct=float(row["share_pct"]),
        flop_per_byte=flop / size,
        tflops=flop / time / 1e6,
    )


def _ceilings(analyses: tuple[Analysis, ...]) -> tuple[Ceiling, ...]:
    """Return the ceilings of all runs, equal ones once. A datasheet figure that is itself used for floors is not repeated."""
    found: dict[tuple[str, float, str, Evidence], list[int]] = {}
    gpus = {a.device.name for a in analyses}  # the lines of several devices leave no room for what each attains
    for number, a in enumerate(analyses):
        seen: set[tuple[float, str]] = set()
        for fact in a.limits:
            value = fact.figure.value
            if (
                not fact.line
                or value is None
                or (fact.line == ATTAINABLE and len(gpus) > 1)
                or (value, fact.figure.unit) in seen
            ):
                continue
            seen.add((value, fact.figure.unit))
            found.setdefault((fact.line, value, fact.figure.unit, fact.figure.evidence), []).append(number)
    return tuple(Ceiling(*key, tuple(runs)) for key, runs in found.items())
