"""What section "occupancy" shows: marks of occupancy against waves, and the time by what limits it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analyzer.report.text import kernel_label, operator_label
from analyzer.schema.results import Analysis

MAX_MARKS = 100
NAMED = 6
GRID, UNKNOWN = "grid", "not known"
KINETO_SHARED_BYTES = 48 * 1024
CELLS = ((0.2, 4.0), (0.3, 6.0), (0.4, 8.0), (0.6, 12.5), (0.8, 17.0), (1.0, 25.0), (2.0, 50.0), (math.inf, math.inf))
TEETH = 40
ACHIEVED = "occupancy_achieved_pct"
FIGURES = ("occupancy_theoretical_pct", "occupancy_pct", "tail_efficiency_pct", "occupancy_kineto_pct")


@dataclass(frozen=True, slots=True)
class Mark:
    """Launches at one point: one kernel and operator, or ``joined`` > 1 smaller ones close to it, then time-weighted means.

    ``time_us`` over the window; ``share_pct`` of the run's kernel time; ``rank`` is the place of a named one, 0 for the others.
    """

    run: int
    name: str
    kernel: str
    kind: str
    limit: str
    joined: int
    calls: int
    time_us: float
    share_pct: float
    waves: float
    theoretical_pct: float
    occupancy_pct: float
    tail_pct: float
    kineto_pct: float
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """The time that one resource limits, as a share of the run's kernel time, with its time-weighted figures.

    ``sets_pct`` is the share of the time in which the resource sets the theoretical occupancy, whatever the grid does.
    ``achieved_pct`` is by hardware counters, over the rows that have it; NaN without.
    """

    limit: str
    share_pct: float
    sets_pct: float
    theoretical_pct: float
    occupancy_pct: float
    tail_pct: float
    kineto_pct: float
    achieved_pct: float = math.nan


@dataclass(frozen=True, slots=True)
class Summary:
    """One run: ``parts`` add up to its kernel time, largest first and what is not known last; ``whole`` is all that is known.

    A part without time is a resource that only sets the theoretical occupancy. ``unseen_pct``: share of the time in kernels
    above 48 KiB of shared memory for which Kineto writes 0; ``unseen_points``: what these zeros take off the mean.
    """

    run: int
    parts: tuple[Part, ...]
    whole: Part
    unseen_pct: float
    unseen_points: float


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Everything that the figure and the table by limit show; runs without occupancy have no summary and no marks.

    The marks of single kernels come first, then joined ones, each largest first.
    """

    marks: tuple[Mark, ...]
    summaries: tuple[Summary, ...]


def occupancy(analyses: tuple[Analysis, ...]) -> Occupancy:
    """Return the marks of all runs together, at most MAX_MARKS, and the summary of each run that has occupancy."""
    marks: list[Mark] = []
    summaries = []
    for number, a in enumerate(analyses):
        if a.totals.occupancy_pct.value is None:
            continue
        rows = a.kernels.assign(limit=limits(a.kernels))
        summaries.append(_summary(rows, number))
        marks += _marks(rows[rows["limit"] != UNKNOWN], number, MAX_MARKS // len(analyses))
    marks.sort(key=lambda mark: (mark.joined > 1, -mark.share_pct))
    ranked = (replace(mark, rank=i if i <= NAMED and mark.joined == 1 else 0) for i, mark in enumerate(marks, 1))
    return Occupancy(tuple(ranked), tuple(summaries))


def limits(kernels: pd.DataFrame) -> pd.Series[str]:
    """Return what limits the occupancy of each row: ``grid`` where fewer blocks were launched than would fit."""
    found = kernels["occupancy_limit"].where(kernels["waves"] >= 1, GRID)
    return found.where(kernels["occupancy_pct"].notna(), UNKNOWN)


def tail_curve(low: float, high: float) -> tuple[tuple[float, float], ...]:
    """Return (waves, tail efficiency in %) from ``low`` to ``high``; beyond TEETH waves the lower envelope."""
    points = [(float(x), 100 * float(x)) for x in np.geomspace(low, 1, 60)] if low < 1 else []
    for whole in range(1, min(math.ceil(high), TEETH)):
        points += [(whole * 1.0001, 100 * whole / (whole + 1)), (whole + 1.0, 100.0)]
    points += [(float(x), 100 * float(x) / (float(x) + 1)) for x in np.geomspace(TEETH, high, 30)] if high > TEETH else []
    return tuple(points)


def _summary(rows: pd.DataFrame, run: int) -> Summary:
    total = float(rows["time_us"].sum())
    known = rows[rows["limit"] != UNKNOWN]
    parts = [_part(str(limit), found, known, total) for limit, found in known.groupby("limit", sort=False)]
    behind = set(known["occupancy_limit"]) - {part.limit for part in parts}
    parts += [_part(limit, known.head(0), known, total) for limit in sorted(behind)]
    parts.sort(key=lambda part: -part.share_pct)
    rest = rows[rows["limit"] == UNKNOWN]
    if len(rest):
        parts.append(_part(UNKNOWN, rest, known, total))
    unseen = known[(known["shared_bytes"] > KINETO_SHARED_BYTES) & (known["occupancy_kineto_pct"] == 0)]
    hidden = float((unseen["occupancy_pct"] * unseen["time_us"]).sum()) / float(known["time_us"].sum())
    share = 100 * float(unseen["time_us"].sum()) / total
    return Summary(run, tuple(parts), _part("", known, known, total), share, hidden)


def _part(limit: str, rows: pd.DataFrame, known: pd.DataFrame, total: float) -> Part:
    sets = known.loc[known["occupancy_limit"] == limit, "time_us"]
    share = 100 * float(rows["time_us"].sum()) / total
    return Part(limit, share, 100 * float(sets.sum()) / total, *(_mean(rows, name) for name in (*FIGURES, ACHIEVED)))


def _mean(rows: pd.DataFrame, column: str) -> float:
    """Return the mean of ``column`` where it is known, weighted by time; NaN where it is nowhere known."""
    known = rows[rows[column].notna()]
    time = float(known["time_us"].sum())
    return float((known[column] * known["time_us"]).sum()) / time if time > 0 else math.nan


def _marks(rows: pd.DataFrame, run: int, limit: int) -> list[Mark]:
    keys = ["kernel", "kind", "op", "limit", "waves", *FIGURES]
    groups = rows[rows["time_us"] > 0].groupby(keys, dropna=False, sort=False)[["calls", "time_us", "share_pct"]].sum()
    groups = groups.reset_index().sort_values("time_us", ascending=False, kind="stable", ignore_index=True)
    if len(groups) <= limit:
        return [_mark([row], run) for row in groups.to_dict("records")]
    kept = max(limit // 3, 1)
    rest = groups.iloc[kept:].to_dict("records")
    cells = next((found for size in CELLS if len(found := _cells(rest, size)) <= limit - kept), [rest])
    return [_mark(found, run) for found in ([[row] for row in groups.head(kept).to_dict("records")] + cells)]


def _cells(rows: list[dict[Any, Any]], size: tuple[float, float]) -> list[list[dict[Any, Any]]]:
    """Return ``rows`` by cells of ``size`` (decades of waves, points of occupancy); none reaches over one wave."""
    found: dict[tuple[float, float, bool], list[dict[Any, Any]]] = {}
    for row in rows:
        waves, filled = float(row["waves"]), float(row["occupancy_pct"])
        key = math.floor(math.log10(waves) / size[0]), math.floor(filled / size[1]), waves < 1
        found.setdefault(key, []).append(row)
    return list(found.values())


def _mark(rows: list[dict[Any, Any]], run: int) -> Mark:
    # plain Python: there are up to MAX_MARKS of them with a few rows each
    first, alone = rows[0], len(rows) == 1
    times = [float(row["time_us"]) for row in rows]
    kernel = kernel_label(str(first["kernel"]))
    single = operator_label(str(first["op"])) if first["op"] else kernel
    kinds, found = {row["kind"] for row in rows}, {row["limit"] for row in rows}
    theoretical, filled, tail, kineto = (_weighted([float(row[name]) for row in rows], times) for name in FIGURES)
    return Mark(
        run=run,
        name=single if alone else f"{len(rows)} smaller ones near here",
        kernel=kernel if alone else "",
        kind=str(first["kind"]) if len(kinds) == 1 else "",
        limit=str(first["limit"]) if len(found) == 1 else "several",
        joined=len(rows),
        calls=int(sum(float(row["calls"]) for row in rows)),
        time_us=sum(times),
        share_pct=sum(float(row["share_pct"]) for row in rows),
        waves=10 ** _weighted([math.log10(float(row["waves"])) for row in rows], times),
        theoretical_pct=theoretical,
        occupancy_pct=filled,
        tail_pct=tail,
        kineto_pct=kineto,
    )


def _weighted(values: list[float], weights: list[float]) -> float:
    """Return the mean of the ``values`` that are known, NaN where none is."""
    known = [(value, weight) for value, weight in zip(values, weights, strict=True) if not math.isnan(value)]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total > 0 else math.nan
