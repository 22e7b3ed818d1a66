"""What each role of a run gained over the same role of the run that it is held against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from analyzer.format import percent
from analyzer.insight.comparison.bases import Bases
from analyzer.insight.comparison.basis import batch_time, is_untraced, same_input, same_model, training_against_inference
from analyzer.insight.comparison.facts import dtype_of
from analyzer.insight.comparison.ratios import Spread, quotient, spread, time_ratio
from analyzer.schema.comparison import Gain
from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Evidence, Quantity, combine
from analyzer.schema.tables import records

TOTAL, KERNELS = "total", "all kernels"
"""The whole time of a batch with all waiting, and all of its kernels (on a CPU its operators) without."""
TRANSFER = "transfer"
"""The kind of copies and fills."""
SAME_WORK = 0.02
"""FLOP and compulsory bytes that differ by less than this are the same work."""
ENOUGH_PCT = 90.0
"""A rate takes a work model of at least this share of the time of a role."""
_MATRIX_WORK = ("attention", "matmul", "moe", "convolution")
"""Kinds whose rate is one of FLOP; that of the others is one of bytes."""

Basis = Literal["time", "FLOP/s", "bytes/s"]


@dataclass(frozen=True, slots=True)
class _Role:
    """A role of one run, or all of it: time, work, and how sure the time is. Without steps there is no ``spread``.

    ``busy_us`` is the time of its kernels, and ``modelled_us`` that of the ones with a work model.
    """

    kinds: tuple[str, ...]
    time_us: float
    busy_us: float
    modelled_us: float
    flop: float
    bytes: float
    spread: Spread | None

    @property
    def modelled_pct(self) -> float:
        return 100 * self.modelled_us / self.busy_us if self.busy_us else 0.0


def gains(runs: Sequence[Digest], bases: Bases, baseline: int) -> tuple[Gain, ...]:
    """Return what each role of every run gained over the run it is held against (``bases``), the whole model first.

    A run that nothing can be held against has one entry over the ``baseline``, which says so.
    """
    roles = [_roles(run) for run in runs]
    out = []
    for number, run in enumerate(runs):
        against = bases.of[number]
        if against is None:
            if bases.why[number]:
                out.append(Gain(TOTAL, number, baseline, "time", Quantity.missing("x", bases.why[number])))
            continue
        mine, base = roles[number], roles[against]
        note = _types_note(runs[against], run)
        names = sorted({*mine, *base} - {TOTAL, KERNELS}, key=lambda role: -max(_time(mine, role), _time(base, role)))
        for role in (TOTAL, KERNELS, *names):
            basis, speedup = _gain(role, (runs[against], base.get(role)), (run, mine.get(role)))
            if note and speedup.value is not None:
                speedup = replace(speedup, source=f"{speedup.source}; {note}")
            out.append(Gain(role, number, against, basis, speedup, note if speedup.value is not None else ""))
    return tuple(out)


def _types_note(base: Digest, run: Digest) -> str:
    """Return which element types are held against each other, empty where they do not differ."""
    was, now = (_type_words(side) for side in (base, run))
    return f"{now} here against {was}" if was and now and was != now else ""


def _type_words(run: Digest) -> str:
    dtype, matrix = dtype_of(run), matrix_type(run)
    return f"{dtype}, products in {matrix}" if dtype == "float32" and matrix not in (None, dtype) else dtype or ""


def _time(roles: dict[str, _Role], role: str) -> float:
    return roles[role].time_us if role in roles else 0.0


def _roles(run: Digest) -> dict[str, _Role]:
    """Return the roles of a run. Copies and fills are none: links to the host and memory set their time, not the device."""
    out = {}
    kernels, groups = (table[table["kind"] != TRANSFER] for table in (run.kinds, run.groups))
    for name, kinds in kernels.groupby("role", sort=False):
        out[str(name)] = _role(run, kinds, groups[groups["role"] == name])
    whole = _role(run, run.kinds, run.groups)
    return out | {KERNELS: whole, TOTAL: replace(whole, time_us=run.ledger.total_us, spread=None)}


def _role(run: Digest, kinds: pd.DataFrame, groups: pd.DataFrame) -> _Role:
    steps = [row.step_us for row in records(groups, "step_us") if row.step_us]
    return _Role(
        kinds=tuple(sorted(kinds["kind"].astype(str))),
        time_us=float(kinds["time_us"].sum()),
        busy_us=float(kinds["time_us"].sum()),
        modelled_us=float(kinds["modelled_us"].sum()),
        flop=float(kinds["flop"].sum()),
        bytes=float(kinds["bytes_compulsory"].sum()),
        spread=spread([sum(values) for values in zip(*steps, strict=True)], run) if steps else None,
    )


def _gain(name: str, first: tuple[Digest, _Role | None], second: tuple[Digest, _Role | None]) -> tuple[Basis, Quantity]:
    (base, was), (run, now) = first, second
    refused = _refused(name, first, second)
    if refused or was is None or now is None:
        return "time", Quantity.missing("x", refused)
    if same_model(base, run) and same_input(base, run):
        return "time", _by_time(name, first, second, Evidence.DERIVED, "the same model on the same input")
    if _same_work(was, now):
        return "time", _by_time(name, first, second, Evidence.MODELLED, "FLOP and compulsory bytes of both agree within 2 %")
    basis, found = _by_rate(name, was, now, (base.label, run.label))
    if name == TOTAL and found.value is not None and is_untraced(base) and is_untraced(run):
        return basis, _of_medians(found, was, now, basis, time_ratio(base, run))
    return basis, found


def _refused(name: str, first: tuple[Digest, _Role | None], second: tuple[Digest, _Role | None]) -> str:
    """Return why a role of two runs has neither a ratio of times nor one of rates, empty where it may have one."""
    for run, role in (first, second):
        if role is None or not role.time_us:
            return f"nothing of this role ran in {run.label}"
        if name == TOTAL and not run.batches:
            return f"{run.label}: the time of a whole trace is not that of a batch"
    return training_against_inference(first[0], second[0])


def _of_medians(rate: Quantity, was: _Role, now: _Role, basis: Basis, taken: Quantity) -> Quantity:
    """Return the ratio of rates of whole batches with the interval of their untraced medians."""
    work = _rate(now, basis) * now.time_us / (_rate(was, basis) * was.time_us)
    ends = (taken.low * work, taken.high * work) if taken.low is not None and taken.high is not None else None
    return _with_ends(rate.value or 0.0, Evidence.MODELLED, ends, f"{rate.source}; times of whole batches: {taken.source}")


def _by_time(
    name: str, first: tuple[Digest, _Role | None], second: tuple[Digest, _Role | None], evidence: Evidence, why: str
) -> Quantity:
    (base, was), (run, now) = first, second
    if was is None or now is None:
        raise TypeError("a role without time has no ratio of times")
    if name == TOTAL and is_untraced(base) and is_untraced(run):
        found = time_ratio(base, run)
        level = combine(evidence, found.evidence)
        return Quantity(found.value, "x", level, found.low, found.high, f"{found.source}; {why}")
    if name == TOTAL:
        source = f"ratio of the times ({batch_time(base).source}; {batch_time(run).source}); {why}"
        return Quantity(was.time_us / now.time_us, "x", evidence, source=source)
    ends = quotient(was.spread, now.spread) if was.spread and now.spread else None
    how = "95 % interval from the traced steps" if ends else "no interval: too few traced steps, or they spread too widely"
    return _with_ends(was.time_us / now.time_us, evidence, ends, f"ratio of the times; {why}; {how}")


def _with_ends(value: float, evidence: Evidence, ends: tuple[float, float] | None, source: str) -> Quantity:
    low, high = (min(ends[0], value), max(ends[1], value)) if ends else (None, None)
    return Quantity(value, "x", evidence, low, high, source)


def _same_work(a: _Role, b: _Role) -> bool:
    """Tell whether a role does the same work in both runs, as far as nearly all of its time has a work model."""
    if min(a.modelled_pct, b.modelled_pct) < ENOUGH_PCT:
        return False
    return _close(a.flop, b.flop) and _close(a.bytes, b.bytes) and max(a.flop, a.bytes) > 0


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= SAME_WORK * max(a, b)


def _by_rate(name: str, was: _Role, now: _Role, labels: tuple[str, str]) -> tuple[Basis, Quantity]:
    """Return the ratio of rates: FLOP/s where a role is matrix work in both runs, bytes/s where it is in neither."""
    matrix = [any(kind in _MATRIX_WORK for kind in role.kinds) for role in (was, now)]
    all_of_it = name in (TOTAL, KERNELS)
    basis: Basis = "FLOP/s" if matrix[0] or all_of_it else "bytes/s"
    if not all_of_it and matrix[0] != matrix[1]:
        return basis, Quantity.missing("x", f"other work: {_listed(was)} in {labels[0]}, {_listed(now)} in {labels[1]}")
    for role, label in zip((was, now), labels, strict=True):
        work = role.flop if basis == "FLOP/s" else role.bytes
        if not work:
            return basis, Quantity.missing("x", f"{label}: no work model; record with record_shapes=True")
        if role.modelled_pct < ENOUGH_PCT:
            return basis, Quantity.missing("x", f"{label}: only {percent(role.modelled_pct)} of its time has a work model")
    before, after = (_rate(role, basis) for role in (was, now))
    ends = _rate_ends(was, now, before, after)
    source = f"ratio of {'FLOP' if basis == 'FLOP/s' else 'compulsory bytes'} per second: the work differs"
    value = after / before
    if not math.isfinite(value):
        return basis, Quantity.missing("x", "no finite rate")
    return basis, _with_ends(value, Evidence.MODELLED, ends, source)


def _listed(role: _Role) -> str:
    return " and ".join(role.kinds)


def _rate(role: _Role, basis: Basis) -> float:
    return (role.flop if basis == "FLOP/s" else role.bytes) / role.time_us


def _rate_ends(was: _Role, now: _Role, before: float, after: float) -> tuple[float, float] | None:
    times = quotient(was.spread, now.spread) if was.spread and now.spread else None
    if times is None or was.spread is None or now.spread is None:
        return None
    scale = (after / before) / (was.spread.mean / now.spread.mean)
    return times[0] * scale, times[1] * scale


def matrix_type(run: Digest) -> str | None:
    """Return the element type in which matrix units run the products of ``run``, None where they do not or nobody knows."""
    dtype = dtype_of(run)
    if dtype in ("float16", "bfloat16", "float64", "float8") or (dtype and f"matrix.{dtype}" in run.hardware.figures):
        return dtype
    if dtype == "tf32":
        return "tfloat32"
    settings = run.facts.settings if run.facts else None
    return "tfloat32" if dtype == "float32" and settings and settings.matmul_precision not in (None, "highest") else None
