"""Which operators account for the change of a class, and in which modules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from analyzer.insight.gate.estimate import class_time
from analyzer.insight.gate.pairing import Sides
from analyzer.schema.gate import GateGroup, GateOperator, GateRun

MOST = 3
"""Operators, and modules of each, that are named."""
ENOUGH = 0.8
"""No more operators are named once these account for this part of the change."""

Name = tuple[str, str]
"""An operator with its shapes."""


@dataclass(slots=True)
class _Side:
    """One operator on one side: its time in each module, and its kernels."""

    modules: dict[str, float] = field(default_factory=dict)
    kernels: tuple[str, ...] = ()

    @property
    def us(self) -> float:
        return sum(self.modules.values())


def responsible(sides: Sides, kind: str) -> tuple[GateOperator, ...]:
    """Return the operators of ``kind`` (of every kind, where it is empty) that changed as the class did, most first.

    Times are medians over the runs of a side. No test stands behind them: they say where the change of the class lies.
    """
    old, new = _operators(sides.old, kind), _operators(sides.new, kind)
    change = {name: new.get(name, _Side()).us - old.get(name, _Side()).us for name in {**old, **new}}
    total = sum(change.values())
    sign = 1 if total >= 0 else -1
    ordered = sorted((name for name in change if sign * change[name] > 0), key=lambda name: (-sign * change[name], name))
    out: list[GateOperator] = []
    for name in ordered[:MOST]:
        if out and sum(operator.new_us - operator.old_us for operator in out) * sign >= ENOUGH * abs(total):
            break
        out.append(_operator(name, old.get(name, _Side()), new.get(name, _Side()), sign))
    return tuple(out)


def _operators(runs: Sequence[GateRun], kind: str) -> dict[Name, _Side]:
    """Return the operators of one side; in a run that lacks a module's call, that took no time."""
    times: dict[tuple[Name, str], list[float]] = defaultdict(list)
    kernels: dict[Name, dict[str, None]] = defaultdict(dict)
    for run in runs:
        found: dict[tuple[Name, str], list[GateGroup]] = defaultdict(list)
        for group in run.groups:
            if not kind or group.kind == kind:
                found[(group.op, group.shapes), group.module].append(group)
                kernels[group.op, group.shapes] |= dict.fromkeys(group.kernels)
        for key, groups in found.items():
            times[key].append(class_time(run, groups).us)
    out: dict[Name, _Side] = defaultdict(_Side)
    for (name, module), values in times.items():
        out[name].modules[module] = median([*values, *[0.0] * (len(runs) - len(values))])
    for name, side in out.items():
        side.kernels = tuple(kernels[name])
    return dict(out)


def _operator(name: Name, old: _Side, new: _Side, sign: int) -> GateOperator:
    modules = {module: new.modules.get(module, 0.0) - old.modules.get(module, 0.0) for module in {**old.modules, **new.modules}}
    named = sorted((module for module in modules if module), key=lambda module: (-sign * modules[module], module))
    return GateOperator(*name, tuple(named[:MOST]), len(named), old.us, new.us, (old.kernels, new.kernels))
