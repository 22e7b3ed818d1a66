"""Which new runs belong to which of the baseline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from analyzer.errors import ConfigError
from analyzer.schema.gate import GateRun

MIN_MATCHED_PCT = 50.0
"""Bare traces that share less of their time, by operators with their shapes, run different models."""
_PRESETS = {"layout": "contiguous", "attention": "auto", "compile": "off", "autocast": "off", "input": "device"}
"""What older runs mean that do not tell."""

Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sides:
    """The runs of one model on both sides."""

    old: tuple[GateRun, ...]
    new: tuple[GateRun, ...]


@dataclass(frozen=True, slots=True)
class Pairing:
    """The models that both sides have, and the runs of those that one side lacks."""

    pairs: tuple[Sides, ...]
    missing: tuple[tuple[GateRun, ...], ...]
    extra: tuple[tuple[GateRun, ...], ...]


def pair(old: Sequence[GateRun], new: Sequence[GateRun]) -> Pairing:
    """Return the runs of both sides by model: name, batch, image size, element type and the settings of ``_PRESETS``.

    A bare trace does not say what it ran, so there may be one on a side, which belongs to the one model left of the other.

    Raises:
        ConfigError: several bare traces on one side, or nothing of both sides belongs together.
    """
    olds, news = _by_model(old, "baseline"), _by_model(new, "runs")
    pairs = [Sides(tuple(runs), tuple(news[key])) for key, runs in olds.items() if key in news]
    missing = [tuple(runs) for key, runs in olds.items() if key not in news]
    extra = [tuple(runs) for key, runs in news.items() if key not in olds]
    bare = [side for side in (missing, extra) if any(not runs[0].model for runs in side)]
    if bare and len(missing) == len(extra) == 1:
        pairs.append(Sides(missing.pop(), extra.pop()))
    if not pairs:
        raise ConfigError(
            f"no model of the baseline has a new run: it has {_listed(missing)}, the new runs have {_listed(extra)}",
            "record the same models with the same batch size, image size, dtype, layout, compile, attention, autocast, input",
        )
    return Pairing(tuple(pairs), tuple(missing), tuple(extra))


def _by_model(runs: Sequence[GateRun], setting: str) -> dict[Key, list[GateRun]]:
    found: dict[Key, list[GateRun]] = defaultdict(list)
    for run in runs:
        found[_key(run)].append(run)
    if len(found.get((), ())) > 1:
        raise ConfigError(
            f"{setting}= names several bare traces, which do not say what they ran",
            "give one bare trace against one, or run directories",
        )
    return found


def _key(run: GateRun) -> Key:
    if not run.model:
        return ()
    return (("model", run.model), ("label", run.label), *sorted((_PRESETS | dict(run.conditions)).items()))


def _listed(sides: Sequence[tuple[GateRun, ...]]) -> str:
    names = [described(runs[0]) for runs in sides]
    return "; ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "none"


def described(run: GateRun) -> str:
    """Return the name of a model with the settings that tell it from another."""
    settings = conditions_of(run)
    return f"{run.label} ({settings})" if settings else run.label


def conditions_of(run: GateRun) -> str:
    """Return the settings of a run in short; presets are left out."""
    shown = [
        f"batch {value}" if name == "batch size" else value if name in ("image size", "element type") else f"{name} {value}"
        for name, value in run.conditions
        if _PRESETS.get(name) != value
    ]
    return ", ".join(shown)


def matched_pct(sides: Sides) -> float:
    """Return the share of the time of either side in operators with shapes that the other has too; the smaller of both."""
    times = []
    for runs in (sides.old, sides.new):
        table: dict[tuple[str, str], float] = defaultdict(float)
        for group in (group for run in runs for group in run.groups):
            table[group.op, group.shapes] += group.time_us
        times.append(table)
    shares = []
    for mine, other in (times, times[::-1]):
        total = sum(mine.values())
        shares.append(100 * sum(us for key, us in mine.items() if key in other) / total if total else 0.0)
    return min(shares)
