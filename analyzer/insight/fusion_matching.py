"""Which operators of an eager run a compiled kernel does: matched by module and operator, in the order of the calls.

Approximation: where an eager and a compiled run call an operator of a module a different number of times, as when the compiler
repeats one in several kernels, its eager time and bytes are divided equally among the compiled kernels that do it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from analyzer.insight.comparison.identity import module_name, operator_name
from analyzer.schema.tables import records
from analyzer.trace.fused import fused_kind
from analyzer.trace.kinds import operator_kind

Source = tuple[str, str]
"""An operator and the path of the module that calls it."""


class Operator(NamedTuple):
    """One operator of the model in one step: ``turn`` counts the calls of the same name in the same module."""

    module: str
    name: str
    turn: int


@dataclass(slots=True)
class Unit:
    """The same call in every step: what it does, its launches (``rows`` of the table), and its sums over the window.

    ``parts`` are the operators of the model that it does, several where a compiler fused them. ``bytes`` are the compulsory
    ones of the launches that do its work, NaN where one is not known.
    """

    parts: tuple[Operator, ...]
    kinds: tuple[str, ...]
    names: tuple[str, ...]
    generated: bool
    module: str
    us: float = 0.0
    bytes: float = 0.0
    calls: int = 0
    rows: list[int] = field(default_factory=list)


class Share(NamedTuple):
    """The time and the bytes of eager operators that one part of a compiled kernel stands for.

    ``divided``: they are a share of operators that several kernels do.
    """

    us: float
    bytes: float
    divided: bool = False


@dataclass(frozen=True, slots=True)
class Matched:
    """``shares[i][j]`` is what part ``j`` of compiled unit ``i`` took in the eager run, None where it has no counterpart.

    ``left`` are the numbers of the eager units that have none.
    """

    shares: tuple[tuple[Share | None, ...], ...]
    left: tuple[int, ...]


def is_generated(kernel: str) -> bool:
    """Tell whether a compiler made a kernel, by its name."""
    return fused_kind(kernel) is not None or kernel.startswith("triton_")


def units_of(launches: pd.DataFrame, sources: Sequence[tuple[Source, ...]]) -> list[Unit]:
    """Return the calls of a run, those at the same place of every step as one, in the order of the first.

    ``sources``: the operators of each launch with their modules, in the order of ``launches``; launches of one operator in one
    step are one call, whose parts are those of its longest launch.
    """
    columns = ("step", "owner", "op_index", "kernel", "module", "kind", "exclusive_us", "start_ns", "bytes_compulsory", "basis")
    calls: dict[Hashable, list[int]] = defaultdict(list)
    rows = list(records(launches, *columns))
    for place in sorted(range(len(rows)), key=lambda i: rows[i].start_ns):
        row = rows[place]
        owner = row.owner if row.owner >= 0 else row.op_index
        calls[(row.step, owner) if owner >= 0 else ("launch", place)].append(place)
    turns: Counter[tuple[int, str, str]] = Counter()
    found: dict[Hashable, Unit] = {}
    for places in calls.values():
        main = max(places, key=lambda i: rows[i].exclusive_us)
        unit = _unit(rows[main], sources[main], turns)
        unit = found.setdefault((unit.generated, unit.parts), unit)
        unit.us += sum(float(rows[i].exclusive_us) for i in places)
        unit.bytes += _bytes([rows[i] for i in places])
        unit.calls += 1
        unit.rows += places
    return list(found.values())


def _bytes(rows: Sequence[Any]) -> float:
    """Return the bytes of one call: those of its helpers count with the launches that they help."""
    working = [float(row.bytes_compulsory) for row in rows if row.basis in ("formula", "view")]
    return sum(working) if working else math.nan


def _unit(row: Any, sources: tuple[Source, ...], turns: Counter[tuple[int, str, str]]) -> Unit:
    step, kernel, kind = row.step, str(row.kernel), str(row.kind)
    module = module_name(str(row.module))
    parts, kinds = [], []
    for op, path in sources or ((kernel, module),):
        name, where = operator_name(op), module_name(path)
        parts.append(Operator(where, name, turns[step, where, name]))
        turns[step, where, name] += 1
        kinds.append(kind if len(sources) <= 1 else operator_kind(op) or kind)
    return Unit(tuple(parts), tuple(kinds), tuple(op for op, _ in sources), is_generated(kernel), module)


class _Place(NamedTuple):
    """A part of a unit that looks for its counterpart."""

    unit: int
    part: int


_Key = Callable[[Operator, str], Hashable | None]


def _name_in_module(part: Operator, kind: str) -> Hashable | None:
    return (part.module, part.name) if part.module else None


def _kind_in_module(part: Operator, kind: str) -> Hashable | None:
    return (part.module, kind) if part.module else None


def _module(part: Operator, kind: str) -> Hashable | None:
    return part.module if part.module and kind != "view" else None


def _name(part: Operator, kind: str) -> Hashable | None:
    return part.name


def _name_alone(part: Operator, kind: str) -> Hashable | None:
    return None if part.module else part.name


_PASSES: tuple[tuple[_Key, _Key], ...] = (
    (_name_in_module, _name_in_module),
    (_kind_in_module, _kind_in_module),
    (_module, _module),
    (_name_alone, _name),
    (_name, _name_alone),
)
"""What must be equal of a part of a compiled kernel and of an eager operator for them to be the same, the strictest first. What
a compiler took apart (a norm into its moments and the rest) has other names in the same module; where one of the two has no
module, its name must do."""


def match_units(eager: Sequence[Unit], compiled: Sequence[Unit]) -> Matched:
    """Return what every part of the compiled units took in the eager run.

    Equally many operators of one description are paired in their order; otherwise time and bytes of all are divided equally
    among the units that do them. The shares and the units of ``left`` add up to the eager run.
    """
    shares: list[list[Share | None]] = [[None] * len(unit.parts) for unit in compiled]
    mine = [_Place(i, j) for i, unit in enumerate(compiled) for j in range(len(unit.parts))]
    theirs = [_Place(i, 0) for i in range(len(eager))]
    for key, other in _PASSES:
        wanted, offered = _pools(mine, compiled, key), _pools(theirs, eager, other)
        for what, places in wanted.items():
            if what in offered:
                _share(shares, places, [Share(eager[place.unit].us, eager[place.unit].bytes) for place in offered[what]])
        both = wanted.keys() & offered.keys()
        mine = [place for place in mine if key(*_of(compiled, place)) not in both]
        theirs = [place for place in theirs if other(*_of(eager, place)) not in both]
    return Matched(tuple(map(tuple, shares)), tuple(place.unit for place in theirs))


def _of(units: Sequence[Unit], place: _Place) -> tuple[Operator, str]:
    unit = units[place.unit]
    return unit.parts[place.part], unit.kinds[place.part]


def _pools(places: Sequence[_Place], units: Sequence[Unit], key: _Key) -> dict[Hashable, list[_Place]]:
    out: dict[Hashable, list[_Place]] = defaultdict(list)
    for place in places:
        what = key(*_of(units, place))
        if what is not None:
            out[what].append(place)
    return out


def _share(shares: list[list[Share | None]], places: Sequence[_Place], given: Sequence[Share]) -> None:
    """Give what eager operators took to the parts at ``places``."""
    if len(places) == len(given):
        for place, share in zip(places, given, strict=True):
            shares[place.unit][place.part] = share
        return
    parts = Counter(place.unit for place in places)
    us, size = sum(share.us for share in given) / len(parts), sum(share.bytes for share in given) / len(parts)
    for place in places:
        within = parts[place.unit]
        shares[place.unit][place.part] = Share(us / within, size / within, divided=len(parts) > 1)
