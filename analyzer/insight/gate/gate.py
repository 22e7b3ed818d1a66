"""From the runs of both sides to everything that the gate says."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from analyzer.errors import ConfigError
from analyzer.format import percent
from analyzer.insight.gate.decide import MIN_SHARE_PCT, decide, margin_pct, quantity
from analyzer.insight.gate.estimate import Estimate, class_time, discord, ratio, whole_latency
from analyzer.insight.gate.pairing import MIN_MATCHED_PCT, Sides, conditions_of, described, matched_pct, pair
from analyzer.insight.gate.responsible import responsible
from analyzer.insight.gate.verdict import say, whole_name
from analyzer.schema.evidence import Quantity
from analyzer.schema.gate import Gate, GateGroup, GateModel, GateRow, GateRun, GateState

UNTRACED = "untraced latency of a batch"
KERNELS = "kernel time alone, for want of untraced latency on both sides"

Times = list[Estimate]


@dataclass(frozen=True, slots=True)
class _Class:
    """One operator class on both sides, one estimate per run that has it."""

    name: str
    old: Times
    new: Times
    share_pct: float


@dataclass(frozen=True, slots=True)
class _Case:
    """One model with what is judged of it. ``reason``: why nothing can be told of it; ``discord``: of its traced times."""

    sides: Sides
    whole: tuple[Times, Times]
    classes: tuple[_Class, ...]
    unjudged: tuple[str, ...]
    untraced: bool
    reason: str
    discord: float = 0.0

    @property
    def tests(self) -> int:
        """Return how many ratios are judged."""
        return 0 if self.reason else 1 + sum(bool(found.old and found.new) for found in self.classes)


def hold_against(new: Sequence[GateRun], old: Sequence[GateRun], min_effect_pct: float) -> Gate:
    """Return what became of each model of the baseline ``old`` in the runs ``new``, and of its operator classes.

    Each ratio has an interval such that no ratio of the gate is called changed by chance in 95 of 100 gates. Runs of one model
    on one side are repeats of each other.

    Raises:
        ConfigError: a side is empty, or nothing of both sides belongs together.
    """
    if not old or not new:
        raise ConfigError("the gate takes runs on both sides", "runs=traces/new baseline=traces/old")
    pairing = pair(old, new)
    cases = [_case(sides) for sides in pairing.pairs]
    tests = sum(case.tests for case in cases)
    models = tuple(_model(case, tests, min_effect_pct) for case in cases)
    missing, extra = (tuple(described(runs[0]) for runs in side) for side in (pairing.missing, pairing.extra))
    headline, reason = say(models, missing)
    return Gate(headline, reason, models, missing, extra, _not_told(models, missing), tests, min_effect_pct)


def _case(sides: Sides) -> _Case:
    classes, small = _classes(sides)
    untraced = all(run.samples for run in (*sides.old, *sides.new))
    reader = whole_latency if untraced else _kernel_time
    whole = ([reader(run) for run in sides.old], [reader(run) for run in sides.new])
    reason = _obstacle(sides, whole)
    apart = 0.0
    if untraced and not reason and all(run.serial for run in (*sides.old, *sides.new)):
        kernels = [_kernel_time(run) for run in sides.old], [_kernel_time(run) for run in sides.new]
        apart = discord(whole, kernels) if all(found.us > 0 for side in kernels for found in side) else 0.0
    return _Case(sides, whole, classes, small, untraced, reason, apart)


def _kernel_time(run: GateRun) -> Estimate:
    return class_time(run, run.groups)


def _obstacle(sides: Sides, whole: tuple[Times, Times]) -> str:
    """Return why nothing can be told of this model, empty where something can."""
    if any(estimate.us <= 0 for times in whole for estimate in times):
        return "no kernel ran on one of the sides"
    if len({run.per_batch for run in (*sides.old, *sides.new)}) > 1:
        return "one side has times per batch, the other of a whole trace, which names no steps"
    if not all(run.model for run in (*sides.old, *sides.new)):
        share = matched_pct(sides)
        if share < MIN_MATCHED_PCT:
            return f"both sides share {percent(share)} of their time by operators and shapes, so they do not run one model"
    return ""


def _classes(sides: Sides) -> tuple[tuple[_Class, ...], tuple[str, ...]]:
    """Return the kinds that are worth a judgement, longest first, and the names of the others."""
    tables = [[_kinds(run) for run in runs] for runs in (sides.old, sides.new)]
    totals = [fmean(sum(estimate.us for estimate in kinds.values()) for kinds in side) for side in tables]
    out, small = [], []
    for name in dict.fromkeys(name for side in tables for kinds in side for name in kinds):
        times = [[kinds[name] for kinds in side if name in kinds and kinds[name].us > 0] for side in tables]
        shares = [
            100 * sum(estimate.us for estimate in found) / len(side) / total if total else 0.0
            for found, side, total in zip(times, tables, totals, strict=True)
        ]
        if max(shares) >= MIN_SHARE_PCT:
            out.append(_Class(name, times[0], times[1], max(shares)))
        else:
            small.append(name)
    return tuple(sorted(out, key=lambda found: (-found.share_pct, found.name))), tuple(sorted(small))


def _kinds(run: GateRun) -> dict[str, Estimate]:
    groups: dict[str, list[GateGroup]] = defaultdict(list)
    for group in run.groups:
        groups[group.kind].append(group)
    return {kind: class_time(run, found) for kind, found in groups.items()}


def _model(case: _Case, tests: int, min_effect_pct: float) -> GateModel:
    sides, first = case.sides, case.sides.old[0]
    rows = [_whole(case, tests, min_effect_pct)]
    rows += [_row(case, found, tests, min_effect_pct) for found in case.classes]
    return GateModel(
        label=_label(sides),
        conditions=conditions_of(first),
        basis=UNTRACED if case.untraced else KERNELS,
        runs=(len(sides.old), len(sides.new)),
        processes=(_processes(sides.old), _processes(sides.new)),
        rows=tuple(rows),
        unjudged=case.unjudged,
        differences=_differences(sides),
        warnings=_warnings(case),
    )


def _label(sides: Sides) -> str:
    """Return what the model is called; bare traces have names of their own on either side."""
    old, new = sides.old[0].label, sides.new[0].label
    return old if old == new else f"{new} against {old}"


def _whole(case: _Case, tests: int, min_effect_pct: float) -> GateRow:
    found = _Class(whole_name(case.untraced), *case.whole, 100.0)
    return _with_operators(_judged("model", found, case, tests, min_effect_pct), case.sides, "")


def _row(case: _Case, found: _Class, tests: int, min_effect_pct: float) -> GateRow:
    if found.old and found.new:
        return _with_operators(_judged("kind", found, case, tests, min_effect_pct), case.sides, found.name)
    state: GateState = "added" if found.new else "removed"
    what = "the baseline has none of it" if found.new else "the new runs have none of it"
    row = GateRow(
        "kind", found.name, _mean(found.old), _mean(found.new), Quantity.missing("x", what), found.share_pct,
        margin_pct(found.share_pct, min_effect_pct), state, f"{what}; its time counts in the whole",
    )  # fmt: skip
    return _with_operators(row, case.sides, found.name)


def _judged(by: Literal["model", "kind"], found: _Class, case: _Case, tests: int, min_effect_pct: float) -> GateRow:
    margin = margin_pct(found.share_pct, min_effect_pct)
    old_us, new_us = _mean(found.old), _mean(found.new)
    if case.reason:
        missing = Quantity.missing("x", case.reason)
        return GateRow(by, found.name, old_us, new_us, missing, found.share_pct, margin, "cannot tell", case.reason)
    more = 0.0 if by == "model" else case.discord**2 / (found.share_pct / 100)
    value = ratio(found.old, found.new, tests, more)
    state, note = decide(value, margin)
    return GateRow(by, found.name, old_us, new_us, quantity(value, tests), found.share_pct, margin, state, note)


def _mean(times: Times) -> float:
    """Return the geometric mean, whose ratio is the one that is judged; 0 of none."""
    return math.exp(fmean(math.log(found.us) for found in times)) if times and all(found.us > 0 for found in times) else 0.0


def _with_operators(row: GateRow, sides: Sides, kind: str) -> GateRow:
    if row.state in ("no change", "cannot tell"):
        return row
    return replace(row, responsible=responsible(sides, kind))


def _processes(runs: Sequence[GateRun]) -> int:
    return sum(max(len(run.samples), 1) for run in runs)


def _differences(sides: Sides) -> tuple[str, ...]:
    """Return the facts that are not the same on both sides, where both tell them."""
    told: list[dict[str, set[str]]] = []
    for runs in (sides.old, sides.new):
        facts: dict[str, set[str]] = defaultdict(set)
        for run in runs:
            for name, value in run.surroundings:
                facts[name].add(value)
        told.append(facts)
    return tuple(
        f"{name}: {' and '.join(sorted(values))} before, {' and '.join(sorted(told[1][name]))} now"
        for name, values in told[0].items()
        if name in told[1] and (values != told[1][name])
    )


def _warnings(case: _Case) -> tuple[str, ...]:
    out = []
    runs = (*case.sides.old, *case.sides.new)
    if not case.untraced:
        out.append("kernel time alone is judged, for want of untraced latency on both sides: time without a kernel is not seen")
    if not all(run.per_batch for run in runs):
        out.append("a trace names no steps, so times are of whole traces: both must hold the same work")
    if not all(len(run.samples) > 1 for run in runs):
        out.append("a run has no repeated process, so a spread from process to process is assumed: 2 %")
    mixed = Counter(name for side in (case.sides.old, case.sides.new) for name in _mixed(side))
    out += [f"runs of one side differ in {name}, though they count as repeats" for name in sorted(mixed)]
    return tuple(out)


def _mixed(runs: Sequence[GateRun]) -> list[str]:
    values: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        for name, value in run.surroundings:
            values[name].add(value)
    return [name for name, found in values.items() if len(found) > 1]


def _not_told(models: Sequence[GateModel], missing: Sequence[str]) -> tuple[str, ...]:
    out = [f"{name} has no new run" for name in missing]
    for model in models:
        out += [f"{model.label}, on both sides not the same: {difference}" for difference in model.differences]
        rows = [row for row in model.rows if row.state == "cannot tell"]
        notes = {row.note for row in rows}
        if len(notes) == 1 and len(rows) > 1:
            out.append(f"{model.label}: nothing can be told, {notes.pop()}")
        else:
            out += [f"{model.label}, {row.name}: cannot tell, {row.note}" for row in rows]
    return tuple(out)
