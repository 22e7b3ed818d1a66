"""What section "fusion" draws: kernel time by module pattern in both runs, and bytes of each group apart and as a whole."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analyzer.insight.comparison.identity import operator_name
from analyzer.report.text import clean
from analyzer.schema.fusion import FusedGroup, Fusion, ModuleChange

MAX_MODULES, MAX_GROUPS = 14, 10
NO_MODULE = "no module known"
LABEL, MODULE_LABEL = 46, 34


@dataclass(frozen=True, slots=True)
class Pair:
    """One row of a figure: what it is about (``below`` in a second line), and the figure of both ends."""

    label: str
    first: float
    second: float
    below: str = ""

    @property
    def delta(self) -> float:
        """Return first minus second."""
        return self.first - self.second


def module_pairs(found: Fusion) -> tuple[Pair, ...]:
    """Return eager and compiled kernel time in µs of the module patterns, those that differ most first.

    The rest is one row, so that the rows add up to the kernel time of both runs.
    """
    kept, rest = _cut(found.modules, MAX_MODULES)
    pairs = [Pair(module_label(change.module, MODULE_LABEL), change.eager_us, change.compiled_us) for change in kept]
    if rest:
        eager, compiled = (sum(getattr(change, name) for change in rest) for name in ("eager_us", "compiled_us"))
        pairs.append(Pair(f"{len(rest)} that differ less", eager, compiled))
    return tuple(pairs)


def _cut(changes: tuple[ModuleChange, ...], most: int) -> tuple[tuple[ModuleChange, ...], tuple[ModuleChange, ...]]:
    return (changes, ()) if len(changes) <= most else (changes[: most - 1], changes[most - 1 :])


def byte_groups(found: Fusion) -> tuple[FusedGroup, ...]:
    """Return the groups of generated kernels of several operators whose bytes are known, most saved bytes first."""
    known = [group for group in found.groups if group.is_fused and math.isfinite(group.bytes_saved)]
    return tuple(sorted(known, key=lambda group: -abs(group.bytes_saved)))


def byte_pairs(found: Fusion) -> tuple[Pair, ...]:
    """Return the bytes of the operators apart and of the kernel as a whole, of the MAX_GROUPS groups that save most."""
    return tuple(
        Pair(operators_label(group, LABEL), group.bytes_apart, group.bytes_whole, modules_label(group, LABEL))
        for group in byte_groups(found)[:MAX_GROUPS]
    )


def module_label(pattern: str, limit: int = 72) -> str:
    """Return a module pattern as a reader may see it."""
    return clean(pattern, limit) if pattern else NO_MODULE


def operators_label(group: FusedGroup, limit: int = 72) -> str:
    """Return the operators of a group in the order of the data, without what names their implementation.

    One that stands there several times in a row is counted.
    """
    out: list[tuple[str, int]] = []
    for op in map(operator_name, group.operators):
        if out and out[-1][0] == op:
            out[-1] = (op, out[-1][1] + 1)
        else:
            out.append((op, 1))
    return clean(" + ".join(f"{count} {op}" if count > 1 else op for op, count in out), limit)


def modules_label(group: FusedGroup, limit: int = 72) -> str:
    """Return the module patterns of a group, that of the main operator first."""
    return clean(", ".join(group.modules), limit) if group.modules else NO_MODULE


def slower(found: Fusion) -> tuple[ModuleChange, ...]:
    """Return the module patterns that take longer in the compiled run, the largest difference first."""
    return tuple(change for change in found.modules if change.delta_us < 0)


def faster(found: Fusion) -> tuple[ModuleChange, ...]:
    """Return the module patterns that take less time in the compiled run, the largest difference first."""
    return tuple(change for change in found.modules if change.delta_us > 0)
