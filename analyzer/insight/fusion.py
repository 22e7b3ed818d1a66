"""What compiling a model changed: its eager and its compiled run, kernel by kernel and module by module.

The kernel time of both runs is divided twice, by what the kernels do and by module; each division adds up to it. Nothing here
presumes that the compiled run takes less.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from analyzer.format import milliseconds
from analyzer.insight.causes import contradictions
from analyzer.insight.fusion_matching import Matched, Share, Unit, is_generated, match_units, units_of
from analyzer.insight.fusion_pair import find_cautions, oriented
from analyzer.insight.fusion_sources import sources_of
from analyzer.insight.ledger import TRACING, UNTRACED, WAITING
from analyzer.insight.rules.selection import bandwidth_gbps, limits
from analyzer.metrics.ledger import kernel_clock, split_launches
from analyzer.schema.evidence import Quantity
from analyzer.schema.findings import Finding
from analyzer.schema.fusion import COMPLETE_PCT, FusedGroup, Fusion, ModuleChange, Prediction, Rest, Side
from analyzer.schema.ledger import KERNEL_TERMS
from analyzer.schema.results import Analysis, Gap, run_names
from analyzer.trace.scopes import module_pattern

MAX_NAMES = 4
"""Kernels and module patterns of one group that are listed."""
DISTURBED = 0.1
"""Kernels that take this share longer while traced than a whole untraced batch were disturbed."""
CHAINS = "unfused_chains"
"""The rule that estimates what fusing would save."""


def find_fusion(a: Analysis, b: Analysis, gap: Gap, ratio: Quantity | None, findings: Iterable[Finding]) -> Fusion | None:
    """Return what compiling changed; None unless one of the two is an eager and the other a compiled run of one model.

    ``gap``, ``ratio`` and ``findings`` are those of the study, for ``a`` first. Both traces must divide into steps.
    """
    order = oriented(a, b)
    if order is None or not (a.window.batches and b.window.batches):
        return None
    runs, names = (a, b), run_names((a, b))
    eager, compiled = (runs[place] for place in order)
    one, two = units_of(eager.launches, sources_of(eager)), units_of(compiled.launches, sources_of(compiled))
    matched = match_units(one, two)
    groups = (*_compiled_groups(eager, compiled, two, matched), *_left_groups(eager, one, matched.left))
    left_us = sum(one[i].us for i in matched.left)
    lone_us = sum(unit.us for unit, shares in zip(two, matched.shares, strict=True) if not _is_matched(shares))
    sign = 1.0 if order[0] == 0 else -1.0
    sides = _side(eager, names[order[0]], order[0]), _side(compiled, names[order[1]], order[1])
    rest = _rest(gap, sign)
    scales = [ledger.scaling.waiting for ledger in (gap.one, gap.two)]
    return Fusion(
        eager=sides[0],
        compiled=sides[1],
        basis=gap.basis,
        ratio=ratio if sign > 0 else _turned(ratio),
        groups=groups,
        modules=_modules(eager, compiled, one, two, matched),
        rest=rest,
        total_us=sign * gap.total_us,
        interval_us=_ends(gap.interval_us, sign),
        matched_eager_pct=_matched_pct(one, left_us),
        matched_compiled_pct=_matched_pct(two, lone_us),
        bandwidth=_bandwidth(compiled),
        prediction=_prediction(findings, names[order[0]], groups),
        cautions=(*find_cautions(eager, compiled), *_disturbed(sides, rest, gap.basis), *contradictions(gap)),
        waiting=(scales[order[0]], scales[order[1]]),
    )


def _turned(ratio: Quantity | None) -> Quantity | None:
    if ratio is None or not ratio.value:
        return None
    low, high = (1 / end if end else None for end in (ratio.high, ratio.low))
    return Quantity(1 / ratio.value, "x", ratio.evidence, low, high, ratio.source)


def _ends(interval: tuple[float, float] | None, sign: float) -> tuple[float, float] | None:
    if interval is None:
        return None
    low, high = sorted(sign * end for end in interval)
    return low, high


def _side(a: Analysis, name: str, place: int) -> Side:
    rows, steps = a.launches, a.window.batches or 1
    works = rows[rows["category"].isin(("kernel", "operator")) & rows["kind"].ne("view")]
    made = works["kernel"].map({kernel: is_generated(kernel) for kernel in works["kernel"].unique()}).astype(bool)
    idle, on_gpu = a.totals.idle, a.device.type == "cuda"
    return Side(
        label=a.label,
        name=name,
        place=place,
        launches=len(works) / steps,
        generated=int(made.sum()) / steps,
        kernel_us=float(rows["exclusive_us"].sum()) / steps,
        generated_us=float(works["exclusive_us"][made].sum()) / steps,
        idle_us=a.totals.idle_us / steps,
        dispatch_us=math.nan if on_gpu else a.totals.dispatch_us / steps,
        host_us=idle.host_us / steps if idle else math.nan,
        traced_us=a.totals.wall_us / steps,
    )


def _is_matched(shares: Sequence[Share | None]) -> bool:
    return any(share is not None for share in shares)


def _matched_pct(units: Sequence[Unit], left_us: float) -> float:
    total = sum(unit.us for unit in units)
    return 100 * (1 - left_us / total) if total else math.nan


def _compiled_groups(eager: Analysis, compiled: Analysis, units: Sequence[Unit], matched: Matched) -> list[FusedGroup]:
    """Return the kernels of the compiled run by what they do, those that differ most from the eager run first."""
    found: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[int]] = defaultdict(list)
    for i, unit in enumerate(units):
        part = "generated" if unit.generated else "library"
        part = part if _is_matched(matched.shares[i]) else "only compiled"
        modules = () if part == "library" else _patterns([unit])
        found[part, unit.names or (_main_kernel(compiled, unit),), modules].append(i)
    groups = [_compiled_group(eager, compiled, key[:2], [units[i] for i in places], [matched.shares[i] for i in places])
              for key, places in found.items()]  # fmt: skip
    order = {"generated": 0, "library": 1, "only compiled": 2}
    return sorted(groups, key=lambda group: (order[group.part], -abs(group.delta_us)))


def _compiled_group(
    eager: Analysis,
    compiled: Analysis,
    key: tuple[str, tuple[str, ...]],
    units: list[Unit],
    shares: list[tuple[Share | None, ...]],
) -> FusedGroup:
    steps, every = compiled.window.batches or 1, [share for found in shares for share in found]
    found = [share for share in every if share is not None]
    rows = compiled.launches.iloc[[row for unit in units for row in unit.rows]]
    batches, gbps = eager.window.batches or 1, bandwidth_gbps(compiled)
    apart, whole, matched_pct = math.nan, math.nan, 100 * len(found) / len(every)
    if key[0] != "library":
        apart = sum(share.bytes for share in found) / batches
        whole = sum(unit.bytes for unit in units) / steps
    return FusedGroup(
        part=key[0],
        operators=key[1],
        modules=_patterns(units),
        kernels=tuple(map(str, rows["kernel"].unique()[:MAX_NAMES])),
        calls=sum(unit.calls for unit in units) / steps,
        eager_us=sum(share.us for share in found) / batches,
        compiled_us=sum(unit.us for unit in units) / steps,
        matched_pct=matched_pct,
        bytes_apart=apart,
        bytes_whole=whole,
        saved_us=(apart - whole) / gbps / 1e3 if gbps and matched_pct >= COMPLETE_PCT else math.nan,
        divided=any(share.divided for share in found),
    )


def _left_groups(eager: Analysis, units: Sequence[Unit], left: Sequence[int]) -> list[FusedGroup]:
    """Return the operators of the eager run that no compiled kernel does, by name."""
    found: dict[tuple[str, ...], list[Unit]] = defaultdict(list)
    for i in left:
        found[units[i].names or (_main_kernel(eager, units[i]),)].append(units[i])
    steps = eager.window.batches or 1
    groups = []
    for names, mine in found.items():
        kernels = eager.launches["kernel"].iloc[[row for unit in mine for row in unit.rows]].unique()[:MAX_NAMES]
        calls, us = sum(unit.calls for unit in mine) / steps, sum(unit.us for unit in mine) / steps
        groups.append(FusedGroup("only eager", names, _patterns(mine), tuple(map(str, kernels)), calls, us, 0.0, 0.0))
    return sorted(groups, key=lambda group: -group.eager_us)


def _main_kernel(a: Analysis, unit: Unit) -> str:
    return str(a.launches["kernel"].iloc[unit.rows[0]])


def _patterns(units: Iterable[Unit]) -> tuple[str, ...]:
    """Return the module patterns of ``units``, the main ones first."""
    paths = [(unit.module, *(part.module for part in unit.parts)) for unit in units]
    found = dict.fromkeys([module_pattern(path[0]) for path in paths])
    found |= dict.fromkeys(module_pattern(module) for path in paths for module in path[1:])
    return tuple(name for name in found if name)


def _modules(
    eager: Analysis, compiled: Analysis, one: Sequence[Unit], two: Sequence[Unit], matched: Matched
) -> tuple[ModuleChange, ...]:
    """Return the kernel time by module pattern, largest difference first.

    Approximation: the time of a kernel that works for several modules is divided among them as the eager times of its operators
    are.
    """
    terms = _terms(eager, compiled)
    sums: dict[str, np.ndarray[tuple[int, int], np.dtype[np.float64]]] = defaultdict(lambda: np.zeros((2, len(KERNEL_TERMS))))
    time: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for unit in one:
        _add(time, sums, {module_pattern(unit.module): 1.0}, unit, terms[0], 0)
    for unit, shares in zip(two, matched.shares, strict=True):
        _add(time, sums, _weights(unit, shares), unit, terms[1], 1)
    steps = np.array([eager.window.batches or 1, compiled.window.batches or 1], np.float64)
    out = []
    for module, (eager_us, compiled_us, shared_us) in time.items():
        split = sums[module] / steps[:, None]
        found = [(term, float(split[0, i]), float(split[1, i])) for i, term in enumerate(KERNEL_TERMS)]
        kept = tuple(entry for entry in found if entry[1] or entry[2])
        shared = 100 * shared_us / compiled_us if compiled_us else 0.0
        out.append(ModuleChange(module, float(eager_us / steps[0]), float(compiled_us / steps[1]), shared, kept))
    return tuple(sorted(out, key=lambda change: -abs(change.delta_us)))


def _add(
    time: dict[str, list[float]], sums: dict[str, np.ndarray[tuple[int, int], np.dtype[np.float64]]],
    weights: dict[str, float], unit: Unit, terms: np.ndarray[tuple[int, int], np.dtype[np.float64]] | None, run: int,
) -> None:  # fmt: skip
    """Add the time of ``unit`` of run 0 or 1 to the modules of ``weights``."""
    split = terms[unit.rows].sum(axis=0) if terms is not None else None
    for module, weight in weights.items():
        time[module][run] += weight * unit.us
        if len(weights) > 1:
            time[module][2] += weight * unit.us
        if split is not None:
            sums[module][run] += weight * split


def _weights(unit: Unit, shares: Sequence[Share | None]) -> dict[str, float]:
    """Return the share of each module pattern in the time of a unit."""
    times: dict[str, float] = defaultdict(float)
    for part, share in zip(unit.parts, shares, strict=True):
        if share is not None and share.us:
            times[module_pattern(part.module)] += share.us
    total = sum(times.values())
    return {name: us / total for name, us in times.items()} if total else {module_pattern(unit.module): 1.0}


def _terms(
    *runs: Analysis,
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]] | None, ...]:
    """Return what the time of every launch is due to, a column per term of KERNEL_TERMS; None where that is not known.

    A term that cannot be told of one run stays with the time without a cause in both, as in the gap.
    """
    known = [limits(a) for a in runs]
    lacking = {term for a in runs for term in a.missing_terms}
    out: list[np.ndarray[tuple[int, int], np.dtype[np.float64]] | None] = []
    for a, limit in zip(runs, known, strict=True):
        if "work" in lacking or any(found is None for found in known) or limit is None:
            out.append(None)
            continue
        value = split_launches(a.launches, limit, kernel_clock(a.run, a.samples)).value
        moved = sum((value[term] for term in lacking if term in value), np.zeros(len(a.launches)))
        columns = {term: np.zeros(len(a.launches)) if term in lacking else value[term] for term in KERNEL_TERMS}
        columns["residual"] = columns["residual"] + moved
        out.append(np.column_stack([columns[term] for term in KERNEL_TERMS]))
    return tuple(out)


def _rest(gap: Gap, sign: float) -> tuple[Rest, ...]:
    """Return the parts of the gap that belong to no kernel."""
    out = []
    for part in gap.parts:
        if part.kind in (WAITING, TRACING):
            times = (part.first_us, part.second_us) if sign > 0 else (part.second_us, part.first_us)
            out.append(Rest(part.term, *times, part.evidence))
    return tuple(out)


def _disturbed(sides: tuple[Side, Side], rest: Sequence[Rest], basis: str) -> tuple[str, ...]:
    """Return a sentence for each run whose kernels took notably longer while traced than a whole batch does untraced."""
    if basis != UNTRACED:
        return ()
    found = []
    for side, word, name in zip(sides, ("eager", "compiled"), ("eager_us", "compiled_us"), strict=True):
        batch_us = side.kernel_us + sum(getattr(part, name) for part in rest)
        if side.kernel_us > (1 + DISTURBED) * batch_us:
            found.append(
                f"While traced, the kernels of the {word} run took {milliseconds(side.kernel_us)}, more than the "
                f"{milliseconds(batch_us)} of a whole untraced batch. Something disturbed the trace, so times by module and by "
                "kernel are too long."
            )
    return tuple(found)


def _bandwidth(a: Analysis) -> Quantity:
    found = next((limit.figure for limit in a.limits if limit.name == "bandwidth used for floors"), None)
    return found or Quantity.missing("GB/s", "the bandwidth of the device is not known; record with calibrate=auto")


def _prediction(findings: Iterable[Finding], name: str, groups: Sequence[FusedGroup]) -> Prediction | None:
    found = next((finding for finding in findings if finding.rule == CHAINS and finding.run == name), None)
    if found is None or found.saving is None:
        return None
    chains = next((fact.figure.value for fact in found.facts if fact.name == "time of the chains"), None)
    delta = sum(group.delta_us for group in groups if group.is_fused)
    return Prediction(found.title, found.saving, chains or math.nan, delta)
