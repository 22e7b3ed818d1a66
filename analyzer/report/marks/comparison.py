"""What the figures of a comparison show, computed before anything is drawn: times, stacks, slopes, gains and changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from analyzer.insight.comparison.basis import is_training
from analyzer.insight.comparison.gains import matrix_type
from analyzer.report.marks.comparison_names import LABEL, device_name, release_year
from analyzer.report.marks.time import IDLE, Stack
from analyzer.report.text import clean
from analyzer.schema.comparison import Change, Comparison, Gain, GapMove, Normalised
from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.trace.kinds import KINDS

MAX_STACKS, MAX_PANELS, MAX_GAINS, MAX_PAIRS, MAX_CHANGES, MAX_DOTS = 12, 6, 4, 3, 12, 24
JOINED_KINDS = 5
CLEAR = ("added", "removed", "faster", "slower")
"""States of a change that noise does not explain."""
CHANGE_WORDS = {
    "added": "added", "removed": "removed", "faster": "faster", "slower": "slower", "unclear": "cannot tell",
    "same": "no difference",
}  # fmt: skip

COUNTED = "multiprocessors"
"""An offer that is no line: the multiprocessors of two vendors or generations are not the same unit."""

# --- times ---------------------------------------------------------------------------------------------------------------


NO_BATCH = Quantity.missing("ms", "the size of a batch is not known")


@dataclass(frozen=True, slots=True)
class RunTime:
    """The time of a run in ms and in words how it came about.

    ``untraced``: it is a median without the profiler. ``per_batch``: it is that of one batch or step, not of a whole trace.
    ``per_image`` is the time in ms per image and ``rate`` images per second, both without a value where the size of a batch is
    not known.
    """

    run: int
    figure: Quantity
    basis: str
    per_batch: bool
    untraced: bool
    per_image: Quantity = NO_BATCH
    rate: Quantity = NO_BATCH


def run_time(d: Digest, run: int) -> RunTime:
    """Return the time of one batch of ``d``, or of its whole trace where that does not divide into steps."""
    if d.latency is not None:
        median = d.latency.median_ms
        return RunTime(run, median, f"untraced median, n = {d.latency.n}", True, True)
    figure = Quantity(d.totals.wall_us / 1e3 / (d.batches or 1), "ms", Evidence.MEASURED)
    return RunTime(run, figure, "traced, per step" if d.batches else "traced, whole trace", bool(d.batches), False)


def run_times(comparison: Comparison) -> tuple[RunTime, ...]:
    """Return the time of each run: what the comparison itself reckons with, where it says so."""
    found = [run_time(d, run) for run, d in enumerate(comparison.runs)]
    if comparison.times:
        found = [replace(t, figure=own) for t, own in zip(found, comparison.times, strict=True)]
    if comparison.image_times and comparison.image_rates:
        images = zip(found, comparison.image_times, comparison.image_rates, strict=True)
        found = [replace(t, per_image=one, rate=rate) for t, one, rate in images]
    return tuple(found)


def dots(times: tuple[RunTime, ...]) -> tuple[RunTime, ...]:
    """Return the times that one chart may hold: those of one batch, the shortest and the longest where there are many."""
    found = [t for t in times if t.per_batch and t.figure.value]
    if len(found) <= MAX_DOTS:
        return tuple(found)
    ranked = sorted(found, key=lambda t: t.figure.value or 0.0)
    return tuple(ranked[: MAX_DOTS // 2] + ranked[-MAX_DOTS // 2 :])


def one_size(comparison: Comparison, times: tuple[RunTime, ...]) -> bool:
    """Tell whether the runs of ``times`` take batches of one size, as far as is known."""
    return len({comparison.runs[t.run].batch_size for t in times} - {None}) < 2


def one_work(comparison: Comparison, times: tuple[RunTime, ...]) -> bool:
    """Tell whether no two runs of ``times`` are known to be of training and of inference."""
    return len({is_training(comparison.runs[t.run]) for t in times} - {None}) < 2


def by_image(comparison: Comparison, times: tuple[RunTime, ...]) -> tuple[RunTime, ...] | None:
    """Return ``times`` per image where batches differ in size and all sizes are known, None where a chart shows batches."""
    if one_size(comparison, times) or any(not t.per_image.value for t in times):
        return None
    return tuple(replace(t, figure=t.per_image) for t in times)


# --- stacks --------------------------------------------------------------------------------------------------------------


def stack(d: Digest, run: int) -> Stack:
    """Return the time of a run by kind in the fixed order of kinds, idle last, per batch where that is known."""
    sums = d.kinds.groupby("kind", observed=True)["time_us"].sum()
    parts = [(kind, float(sums[kind])) for kind in KINDS if kind in sums.index]
    parts.append((IDLE, d.totals.idle_us / (d.batches or 1)))
    return Stack(d.label, run, tuple(parts), d.batches)


def drawn_stacks(stacks: tuple[Stack, ...]) -> tuple[Stack, ...]:
    """Return the stacks that are drawn: all where they are few, else the shortest and the longest by busy time."""
    found = [s for s in stacks if s.busy_us > 0]
    if len(found) <= MAX_STACKS:
        return tuple(found)
    ranked = sorted(found, key=lambda s: s.busy_us)
    return tuple(ranked[: MAX_STACKS // 2] + ranked[-MAX_STACKS // 2 :])


def on_one_axis(stacks: tuple[Stack, ...]) -> tuple[Stack, ...]:
    """Return the stacks whose times may stand on one axis: those of one batch where there are some, else all."""
    return tuple(s for s in stacks if s.steps) or stacks


# --- the gap -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slope:
    """One pair of models on one or more devices, devices in the order of their architectures."""

    vit: str
    cnn: str
    settings: str
    moves: tuple[GapMove, ...]


def slopes(comparison: Comparison) -> tuple[Slope, ...]:
    """Return the pairs of models, those in most places first, of these that of the baseline."""
    groups: dict[tuple[str, str], list[GapMove]] = {}
    for move in comparison.moves:
        vit, cnn = comparison.runs[move.vit], comparison.runs[move.cnn]
        groups.setdefault((clean(vit.label, LABEL), clean(cnn.label, LABEL)), []).append(move)
    out = []
    for labels, moves in groups.items():
        ordered = sorted(moves, key=lambda move: release_year(comparison.runs[move.vit]))
        settings = _shared_words([comparison.runs[move.vit] for move in moves])
        out.append(Slope(*labels, settings, tuple(replace(move, device=_device(comparison, move)) for move in ordered)))
    return tuple(
        sorted(out, key=lambda slope: (-len(set(map(slope_place, slope.moves))), not _has_baseline(comparison, slope)))
    )


def _has_baseline(comparison: Comparison, slope: Slope) -> bool:
    return any(comparison.baseline in (move.vit, move.cnn) for move in slope.moves)


def _shared_words(runs: list[Digest]) -> str:
    """Return those of the settings' words that all runs have; the others stand with each place."""
    found = [settings_words(run).split(", ") for run in runs]
    return ", ".join(word for word in found[0] if word and all(word in words for words in found))


def _device(comparison: Comparison, move: GapMove) -> str:
    """Return the product by its datasheet; its own name behind it where two devices of one comparison share that product."""
    name = device_name(comparison.runs[move.vit])
    own = {m.device for m in comparison.moves if device_name(comparison.runs[m.vit]) == name}
    return f"{name} ({clean(move.device, 40)})" if len(own) > 1 else name


def slope_place(move: GapMove) -> tuple[str, str]:
    """Return where a move stands along the axis: its device, and the conditions that set it apart on that device."""
    return move.device, move.conditions


def settings_words(d: Digest) -> str:
    """Return element type, batch and image size as far as they are known."""
    words = [
        clean(d.dtype, 20),
        f"batch {d.batch_size}" if d.batch_size else "",
        f"{d.image_size} px" if d.image_size else "",
    ]
    return ", ".join(word for word in words if word)


# --- gains ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GainPanel:
    """The gains of one run over its ``baseline``, ``total`` last, and what its device offers: (name, ratio)."""

    run: int
    baseline: int
    gains: tuple[Gain, ...]
    offers: tuple[tuple[str, float], ...]


WHOLE = ("all kernels", "total")
"""What is no role but all of a run: it stands below the roles."""


def gain_panels(comparison: Comparison) -> tuple[GainPanel, ...]:
    """Return a panel for each model on each device under each setting; of many, those with the least and the most gains.

    Of repeats the first is drawn. Offers are drawn for runs on another device than their baseline's only: on one device there
    is nothing to offer.
    """
    panels: dict[tuple[str, str, str], GainPanel] = {}
    for run, d in enumerate(comparison.runs):
        panel = _gain_panel(comparison, run)
        if panel is not None:
            panels.setdefault((d.label, device_name(d), settings_words(d)), panel)
    if len(panels) <= MAX_GAINS:
        return tuple(panels.values())
    ranked = sorted(panels.values(), key=_middle_gain)
    return tuple(ranked[: MAX_GAINS // 2] + ranked[-MAX_GAINS // 2 :])


def gain_base(comparison: Comparison, run: int) -> int | None:
    """Return the run that the gains of ``run`` are over, None for a baseline and where there is none."""
    return next((g.baseline for g in comparison.gains if g.run == run != g.baseline and g.speedup.value is not None), None)


def _gain_panel(comparison: Comparison, run: int) -> GainPanel | None:
    base = gain_base(comparison, run)
    if base is None:
        return None
    gains = sorted(
        (g for g in comparison.gains if g.run == run and g.baseline == base and g.speedup.value),
        key=lambda g: (WHOLE.index(g.role) if g.role in WHOLE else -1, -(g.speedup.value or 0.0)),
    )
    offers = tuple(
        (offer.name, offer.ratio.value)
        for offer in comparison.offers
        if offer.run == run and offer.baseline == base and offer.name != COUNTED and offer.ratio.value is not None
    )
    return GainPanel(run, base, tuple(gains), offers if any(ratio != 1 for _, ratio in offers) else ()) if gains else None


def _middle_gain(panel: GainPanel) -> float:
    """Return the gain of the whole run where it is known, else the middle one of its roles."""
    whole = [g.speedup.value for g in panel.gains if g.role == "total"]
    values = sorted(value for value in whole or [g.speedup.value for g in panel.gains] if value is not None)
    return values[len(values) // 2]


# --- rooflines -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KindMark:
    """All kernels of one kind in a run: FLOP per compulsory byte, TFLOP/s, and share of the time in %."""

    kind: str
    flop_per_byte: float
    tflops: float
    share_pct: float


@dataclass(frozen=True, slots=True)
class Roof:
    """A limit of a device: ``GB/s`` (slanted) or ``TFLOP/s`` (flat)."""

    name: str
    figure: Quantity


@dataclass(frozen=True, slots=True)
class RoofPanel:
    """The roofline of one run, by kind. ``left_out_pct``: share of its time without FLOP or bytes.

    ``joined``: pairs of the mark of a kind in the run ``base`` that the gains of this one are over, and its own.
    """

    run: int
    marks: tuple[KindMark, ...]
    roofs: tuple[Roof, ...]
    left_out_pct: float
    base: int | None = None
    joined: tuple[tuple[KindMark, KindMark], ...] = ()


def roof_panels(comparison: Comparison) -> tuple[RoofPanel, ...]:
    """Return the rooflines of the runs that have marks, in their order."""
    found = [_roof_panel(d, run) for run, d in enumerate(comparison.runs)]
    return tuple(_joined(comparison, panel, found) for panel in found if panel.marks)


def _joined(comparison: Comparison, panel: RoofPanel, panels: list[RoofPanel]) -> RoofPanel:
    """Join the marks of the largest kinds with those of the run that this one is held against, on another device."""
    base = gain_base(comparison, panel.run)
    if base is None or device_name(comparison.runs[base]) == device_name(comparison.runs[panel.run]):
        return panel
    before = {mark.kind: mark for mark in panels[base].marks}
    largest = sorted(panel.marks, key=lambda mark: -mark.share_pct)[:JOINED_KINDS]
    return replace(panel, base=base, joined=tuple((before[m.kind], m) for m in largest if m.kind in before))


def _roof_panel(d: Digest, run: int) -> RoofPanel:
    """FLOP are held against the time of the kernels whose FLOP they are, not against that of all kernels of the kind."""
    total = float(d.kinds["time_us"].sum())
    sums = d.kinds.groupby("kind", observed=True)[["time_us", "modelled_us", "flop", "bytes_compulsory"]].sum()
    sums = sums[(sums["flop"] > 0) & (sums["bytes_compulsory"] > 0) & (sums["modelled_us"] > 0)]
    marks = tuple(
        KindMark(str(kind), flop / size, flop / modelled / 1e6, 100 * time / total)
        for kind, (time, modelled, flop, size) in zip(sums.index, sums.to_numpy(float).tolist(), strict=True)
    )
    return RoofPanel(run, marks, roofs(d), 100 - sum(mark.share_pct for mark in marks))


def roofs(d: Digest) -> tuple[Roof, ...]:
    """Return the limits of the device of a run: of its datasheet, or measured ones where it has none.

    The matrix peak is that of the element type in which the matrix units run its products: float32 that may take TF32 has that
    of TF32, and float32 that may not has none on NVIDIA.
    """
    figures, product = d.hardware.figures, matrix_type(d) or d.dtype
    if figures:
        wanted = [("DRAM", "dram_bandwidth"), (f"matrix {product}", f"matrix.{product}"), ("vector float32", "vector.float32")]
        return tuple(Roof(name, figures[key]) for name, key in wanted if key in figures)
    stored = "float32" if d.dtype == "tf32" else d.dtype
    names = {"copy": "copy", "matmul": f"matmul {d.dtype}"}
    return tuple(
        Roof(names[c.name], Quantity(c.value, c.unit, Evidence.MEASURED, c.low, c.high))
        for c in (d.facts.ceilings if d.facts else ())
        if c.name in names and (c.name == "copy" or c.dtype == stored)
    )


# --- clocks ---------------------------------------------------------------------------------------------------------------


def held_clock(comparison: Comparison, n: Normalised, others: Mapping[int, Normalised]) -> Normalised | None:
    """Return the run that the cycles of ``n`` may be held against: that of its gains, on the same product, None elsewhere."""
    base = gain_base(comparison, n.run)
    found = others.get(base) if base is not None else None
    if found is None or device_name(comparison.runs[found.run]) != device_name(comparison.runs[n.run]):
        return None
    return found if comparison.runs[found.run].label == comparison.runs[n.run].label else None


# --- changes -------------------------------------------------------------------------------------------------------------


def drawn_changes(changes: tuple[Change, ...]) -> tuple[str, tuple[Change, ...]]:
    """Return by what the largest changes are drawn, and they: the clear ones, by operator, else by module, else by kind.

    Where no difference has an interval, because a single step was traced, the largest ones are drawn all the same.
    """
    for by in ("operator", "module", "kind"):
        found = [c for c in changes if c.by == by and c.state in CLEAR and c.delta_us.value]
        if any(c.state in ("faster", "slower") for c in found):
            return by, _largest(found)
    untold = [c for c in changes if c.by == "operator" and c.delta_us.value]
    if any(c.delta_us.low is not None for c in untold):
        untold = [c for c in untold if c.state in CLEAR]
    return ("operator", _largest(untold)) if untold else ("", ())


def _largest(changes: list[Change]) -> tuple[Change, ...]:
    return tuple(sorted(changes, key=lambda change: -abs(change.delta_us.value or 0.0))[:MAX_CHANGES])


def finite(figure: Quantity) -> float:
    """Return the value of a figure, NaN where it has none."""
    return math.nan if figure.value is None else figure.value


def in_ms(figure: Quantity) -> Quantity:
    """Return a figure in microseconds as milliseconds."""
    scaled = (None if value is None else value / 1e3 for value in (figure.value, figure.low, figure.high))
    value, low, high = scaled
    return replace(figure, value=value, low=low, high=high, unit="ms")
