"""Which operators of different runs are the same: matched by operator, shapes, element type and module, never by kernel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from analyzer.insight.comparison.identity import module_name, natural, operand_shapes, operator_name
from analyzer.schema.comparison import MatchedOperator
from analyzer.schema.digest import Digest
from analyzer.schema.tables import records

ALIKE = 0.9
"""Traces without shapes run the same model if this share of their calls, by operator, is the same; traces with shapes do the
same work if this share of their time is in the same operators."""
MAX_CELLS = 2_000_000
"""Operators times runs that a comparison lists."""
_MAX_FAMILIES = 50


class Identity(NamedTuple):
    """What makes two operators the same. ``apart`` numbers the run of one that must not be taken for that of another."""

    op: str
    shapes: str
    dtype: str
    module: str
    apart: int = -1


@dataclass(slots=True)
class Cell:
    """One operator in one run: its time, calls, kernels and time per step; ``op`` and ``shapes`` as the trace has them."""

    op: str
    shapes: str
    time_us: float = 0.0
    calls: float = 0.0
    kernels: tuple[str, ...] = ()
    steps: tuple[float, ...] = ()
    kinds: dict[str, float] = field(default_factory=dict)

    def add(self, other: Cell) -> None:
        """Add another part of the same operator."""
        self.time_us += other.time_us
        self.calls += other.calls
        self.kernels += tuple(name for name in other.kernels if name not in self.kernels)
        self.steps = tuple(map(sum, zip(self.steps, other.steps, strict=True))) if self.steps else other.steps
        for kind, us in other.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0.0) + us


Table = dict[Identity, Cell]


@dataclass(frozen=True, slots=True)
class Matching:
    """The operators of all runs under common identities: one table per run."""

    tables: tuple[Table, ...]
    matched_pct: tuple[float, ...]

    def operators(self) -> tuple[MatchedOperator, ...]:
        """Return a row per operator, those with the largest share of any run's time first; at most MAX_CELLS / runs."""
        totals = [sum(cell.time_us for cell in table.values()) or 1.0 for table in self.tables]
        shares: dict[Identity, float] = {}
        for table, total in zip(self.tables, totals, strict=True):
            for key, cell in table.items():
                shares[key] = max(shares.get(key, 0.0), cell.time_us / total)
        order = sorted(shares, key=lambda key: (-shares[key], key.op, key.shapes, natural(key.module), key.dtype, key.apart))
        kept = order[: MAX_CELLS // len(self.tables)]
        return tuple(_row(key, tuple(table.get(key) for table in self.tables)) for key in kept)

    def count(self) -> int:
        """Return how many operators there are in all runs together."""
        return len({key for table in self.tables for key in table})

    def families(self) -> tuple[tuple[int, ...], ...]:
        """Return groups of two or more runs that spend their time in the same operators on the same shapes."""
        times = [_time_by_shape(table) for table in self.tables]
        found: list[list[int]] = []
        for number, mine in enumerate(times):
            group = next((group for group in found if _overlap(mine, times[group[0]]) >= ALIKE), None)
            if group is not None:
                group.append(number)
            elif mine and len(found) < _MAX_FAMILIES:
                found.append([number])
        return tuple(tuple(group) for group in found if len(group) > 1)


def _time_by_shape(table: Table) -> dict[tuple[str, str], float]:
    """Return the share of time of each operator and shape; nothing where the traces tell too few shapes."""
    total = sum(cell.time_us for cell in table.values())
    out: dict[tuple[str, str], float] = defaultdict(float)
    for key, cell in table.items():
        if key.shapes:
            out[key.op, key.shapes] += cell.time_us / total if total else 0.0
    return dict(out) if sum(out.values()) >= ALIKE else {}


def _overlap(a: dict[tuple[str, str], float], b: dict[tuple[str, str], float]) -> float:
    """Return the share of time in operators that both have, of the run in which that is less."""
    return min(sum(share for key, share in one.items() if key in other) for one, other in ((a, b), (b, a)))


def match(runs: Sequence[Digest], baseline: int) -> Matching:
    """Return the operators of all runs under the identities of the baseline, where it has them.

    An operator with its shapes is looked for first with its element type and module, then without one of them, then without
    both; several of one description are paired in the order of their modules. One without shapes is the same only in the same
    module, or where the traces run the same operators equally often.
    """
    tables = _same_grain([_table(run) for run in runs])
    base = tables[baseline]
    out = [table if number == baseline else _renamed(table, base, number) for number, table in enumerate(tables)]
    return Matching(tuple(out), tuple(_matched_pct(out, number, baseline) for number in range(len(out))))


def _table(run: Digest) -> Table:
    out: Table = {}
    for row in records(run.groups):
        op = operator_name(str(row.op))
        key = Identity(op, operand_shapes(op, str(row.shapes)), str(row.dtype), module_name(str(row.module)))
        cell = cell_of(row)
        if key in out:
            out[key].add(cell)
        else:
            out[key] = cell
    return out


def cell_of(row: Any) -> Cell:
    """Return a row of ``Digest.groups`` as a cell."""
    us = float(row.time_us)
    return Cell(str(row.op), str(row.shapes), us, float(row.calls), tuple(row.kernels), tuple(row.step_us), {str(row.kind): us})


def _same_grain(tables: list[Table]) -> list[Table]:
    """Return the tables with modules left out of every operator that some run has without its module."""
    coarse = {key[:3] for table in tables for key in table if key.shapes and not key.module}
    if not coarse:
        return tables
    out = []
    for table in tables:
        merged: Table = {}
        for key, cell in table.items():
            short = key._replace(module="") if key[:3] in coarse else key
            if short in merged:
                merged[short].add(cell)
            else:
                merged[short] = replace(cell, kinds=dict(cell.kinds))
        out.append(merged)
    return out


def _renamed(table: Table, base: Table, number: int) -> Table:
    """Return ``table`` under the identities of ``base``; what has neither partner nor shapes stays apart."""
    names = _partners(table, base)
    return {names.get(key) or (key if key.shapes else key._replace(apart=number)): cell for key, cell in table.items()}


_PASSES: tuple[Callable[[Identity], Identity], ...] = (
    lambda key: key,
    lambda key: key._replace(dtype=""),
    lambda key: key._replace(module=""),
    lambda key: key._replace(dtype="", module=""),
)


def _partners(table: Table, base: Table) -> dict[Identity, Identity]:
    """Return the identity in ``base`` of each operator of ``table`` that has one there."""
    alike = _alike(table, base)
    found: dict[Identity, Identity] = {}
    left, free = list(table), dict.fromkeys(base)
    for shorten in _PASSES:
        mine, theirs = _bundles(left, shorten, alike), _bundles(free, shorten, alike)
        for key, bundle in mine.items():
            # not strict: what one run has more of is left over
            for one, other in zip(bundle, theirs.get(key, ()), strict=False):
                found[one] = other
                del free[other]
        left = [key for key in left if key not in found]
    return found


def _bundles(
    keys: Sequence[Identity] | dict[Identity, None], shorten: Callable[[Identity], Identity], alike: bool
) -> dict[Identity, list[Identity]]:
    out = defaultdict(list)
    for key in keys:
        if key.shapes or alike or (key.module and shorten(key).module):
            out[shorten(key)].append(key)
    for bundle in out.values():
        bundle.sort(key=lambda key: (natural(key.module), key.dtype))
    return out


def _alike(a: Table, b: Table) -> bool:
    """Tell whether what has no shapes in both runs may be matched by its name: they call the same operators equally often."""
    calls: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for number, table in enumerate((a, b)):
        for key, cell in table.items():
            if not key.shapes:
                calls[key.op][number] += cell.calls
    most = sum(max(pair) for pair in calls.values())
    return bool(most) and sum(min(pair) for pair in calls.values()) >= ALIKE * most


def _matched_pct(tables: list[Table], number: int, baseline: int) -> float:
    """Return the share of a run's kernel time in operators that the baseline has too; of the baseline's, that any other has."""
    mine = tables[number]
    others = [tables[baseline]] if number != baseline else [t for place, t in enumerate(tables) if place != baseline]
    total = sum(cell.time_us for cell in mine.values())
    partnered = sum(cell.time_us for key, cell in mine.items() if any(key in other for other in others))
    return min(100 * partnered / total, 100.0) if total else float("nan")


def main_kind(cell: Cell) -> str:
    """Return the kind with most of the time of an operator."""
    return max(sorted(cell.kinds), key=lambda kind: cell.kinds[kind])


def _row(key: Identity, cells: tuple[Cell | None, ...]) -> MatchedOperator:
    there = [cell for cell in cells if cell]
    kinds: dict[str, float] = defaultdict(float)
    for cell in there:
        for kind, us in cell.kinds.items():
            kinds[kind] += us
    ops = {cell.op for cell in there}
    return MatchedOperator(
        kind=max(sorted(kinds), key=lambda kind: kinds[kind]),
        op=there[0].op if len(ops) == 1 else key.op,
        shapes=there[0].shapes,
        module=key.module,
        time_us=tuple(cell.time_us if cell else None for cell in cells),
        kernels=tuple(cell.kernels if cell else () for cell in cells),
        calls=tuple(cell.calls if cell else None for cell in cells),
        dtype=key.dtype,
    )
