"""The numbers of the figures of a crossover report: lines over the image size, or over the work of an image."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from analyzer.insight.crossover.contests import Best
from analyzer.insight.crossover.crossings import Track
from analyzer.insight.crossover.grid import Entry
from analyzer.insight.crossover.result import Crossover
from analyzer.report.crossover.cells import sign
from analyzer.report.text import clean
from analyzer.schema.evidence import Quantity

MAX_PANELS, MAX_LINES, NAME = 6, 8, 24
BEYOND = 2.0
Figure = tuple[float, float | None, float | None]
"""A value with the ends of its interval, None without."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel: ``points`` are (x, value, low, high).

    ``run`` is the number of its model; below 0 it is no model's, and gets a dash pattern instead of a colour.
    """

    run: int
    name: str
    points: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One batch size, image size or pair of models.

    ``lost``: (model, x) of places too large for memory. ``crossings``: (x, low, high, resolved), between measured sizes.
    """

    title: str
    lines: tuple[Line, ...]
    lost: tuple[tuple[int, float], ...] = ()
    crossings: tuple[tuple[float, float, float, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Panels:
    """The panels of a figure, and how many batch sizes and models there was no room for."""

    panels: tuple[Panel, ...]
    left_out: int = 0
    lines_left_out: int = 0

    @property
    def drawn(self) -> bool:
        """Tell whether there is anything to draw."""
        return any(line.points for panel in self.panels for line in panel.lines)

    @property
    def across(self) -> int:
        """Return at how many places there are points; with one, there are no lines to draw."""
        return len({p[0] for panel in self.panels for line in panel.lines for p in line.points})

    def span(self) -> tuple[float, float]:
        """Return the least and the greatest figure to be drawn, with the ends of intervals up to BEYOND times as far."""
        points = [p for panel in self.panels for line in panel.lines for p in line.points]
        least, most = min(p[1] for p in points), max(p[1] for p in points)
        return max(min(p[2] for p in points), least / BEYOND), min(max(p[3] for p in points), most * BEYOND)

    @property
    def cut(self) -> bool:
        """Tell whether an interval goes beyond what is drawn."""
        if not self.drawn:
            return False
        low, high = self.span()
        return any(p[2] < low or p[3] > high for panel in self.panels for line in panel.lines for p in line.points)

    @property
    def has_lost(self) -> bool:
        """Tell whether a place too large for memory is marked."""
        return any(panel.lost for panel in self.panels)


def per_image_ms(entry: Entry) -> Figure | None:
    """Return the time of one image in ms at the latency of its batch."""
    latency = entry.latency_ms
    return None if latency is None else _scaled(latency, 1 / entry.batch)


def peak_mib(entry: Entry) -> Figure | None:
    """Return the peak of memory in MiB."""
    figures = entry.point.figures
    return None if figures is None else _scaled(figures.peak_bytes, 1 / 2**20)


def peak_gib(entry: Entry) -> Figure | None:
    """Return the peak of memory in GiB."""
    figures = entry.point.figures
    return None if figures is None else _scaled(figures.peak_bytes, 1 / 2**30)


def per_joule(entry: Entry) -> Figure | None:
    """Return images per joule."""
    figures = entry.point.figures
    return None if figures is None else _scaled(figures.images_per_j, 1.0)


def gflop(entry: Entry) -> float | None:
    """Return the FLOP of one image in GFLOP."""
    figures = entry.point.figures
    return None if figures is None or not figures.flop.value else figures.flop.value / 1e9


def _size(entry: Entry) -> float:
    return float(entry.size)


def _batch(entry: Entry) -> float:
    return float(entry.batch)


def _scaled(figure: Quantity, factor: float) -> Figure | None:
    if figure.value is None or not math.isfinite(figure.value) or figure.value <= 0:
        return None
    ends = (None if end is None else end * factor for end in (figure.low, figure.high))
    return (figure.value * factor, *ends)  # type: ignore[return-value]


def over_size(found: Crossover, device: int, value: Callable[[Entry], Figure | None], crossings: bool = False) -> Panels:
    """Return ``value`` of the best setting of each model over the image size, a panel a batch size."""
    return _panels(found, device, _size, value, crossings)


def over_batch(found: Crossover, device: int, value: Callable[[Entry], Figure | None]) -> Panels:
    """Return ``value`` of the best setting of each model over the batch size, a panel an image size."""
    return _panels(found, device, _batch, value, crossings=False)


def ratios(found: Crossover, device: int) -> Panels:
    """Return the ratio of the times of each pair over the image size, a panel a pair, a line a batch size."""
    by_pair: dict[tuple[int, int], list[Track]] = defaultdict(list)
    for track in found.tracks:
        if track.device == device and track.timed:
            by_pair[track.first, track.second].append(track)
    made = []
    for (first, second), own in by_pair.items():
        names = [f"{sign(n)} {clean(found.grid.models[n].name, NAME)}" for n in (first, second)]
        lines = [_ratio_line(number, track) for number, track in enumerate(sorted(own, key=lambda t: t.batch)[:MAX_LINES])]
        made.append(Panel(f"{names[0]} over {names[1]}", tuple(lines)))
    return Panels(tuple(made[:MAX_PANELS]), max(len(made) - MAX_PANELS, 0))


def _ratio_line(number: int, track: Track) -> Line:
    shown = [(float(c.size), found) for c in track.timed if (found := _scaled(c.ratio, 1.0) if c.ratio else None) is not None]
    points = tuple((size, value, low or value, high or value) for size, (value, low, high) in shown)
    return Line(-1 - number, f"batch {track.batch}", points)


def over_work(found: Crossover, device: int) -> Panels:
    """Return the time of an image over its GFLOP, a panel a batch size."""
    return _panels(found, device, gflop, per_image_ms, crossings=False)


def _panels(
    found: Crossover,
    device: int,
    x: Callable[[Entry], float | None],
    value: Callable[[Entry], Figure | None],
    crossings: bool,
) -> Panels:
    panels: dict[int, list[Best]] = defaultdict(list)
    for b in found.best:
        if b.device == device:
            panels[b.size if x is _batch else b.batch].append(b)
    models = found.grid.models[:MAX_LINES]
    made = []
    for key, best in sorted(panels.items()):
        lines = [_line(found, model.number, best, x, value) for model in models]
        lost = _lost(best, x) if value is not per_joule and x is not gflop else ()
        drawn = tuple(line for line in lines if line.points)
        if drawn:
            title = f"{key} px" if x is _batch else f"batch {key}"
            made.append(Panel(title, drawn, lost, _marks(found, device, key, crossings)))
    shown = _spread(made, MAX_PANELS)
    return Panels(tuple(shown), len(made) - len(shown), len(found.grid.models) - len(models))


def _line(
    found: Crossover,
    model: int,
    best: Iterable[Best],
    x: Callable[[Entry], float | None],
    value: Callable[[Entry], Figure | None],
) -> Line:
    points = []
    for b in sorted((b for b in best if b.model == model), key=lambda b: (b.size, b.batch)):
        if b.best is None:
            continue
        across, figure = x(b.best), value(b.best)
        if across is not None and figure is not None:
            low, high = (figure[0] if end is None or end <= 0 else end for end in figure[1:])
            points.append((across, figure[0], low, high))
    return Line(model, f"{sign(model)} {clean(found.grid.models[model].name, NAME)}", tuple(points))


def _lost(best: Iterable[Best], x: Callable[[Entry], float | None]) -> tuple[tuple[int, float], ...]:
    """Return the places that are too large for memory, on the axis of ``x``."""
    return tuple((b.model, float(b.batch if x is _batch else b.size)) for b in best if b.too_large and b.model < MAX_LINES)


def _marks(found: Crossover, device: int, batch: int, wanted: bool) -> tuple[tuple[float, float, float, bool], ...]:
    """Return the crossings of the only pair; of more models the table alone shows them."""
    if not wanted or len(found.grid.models) != 2:
        return ()
    out = []
    for track in found.tracks:
        for c in track.crossings if (track.device, track.batch) == (device, batch) else ():
            if c.state == "resolved" and c.size_px.value is not None:
                out.append((c.size_px.value, float(c.between[0]), float(c.between[1]), True))
            elif c.state == "unresolved":
                out.append((math.sqrt(c.between[0] * c.between[1]), float(c.between[0]), float(c.between[1]), False))
    return tuple(out)


def _spread(values: list[Panel], most: int) -> list[Panel]:
    """Return at most ``most`` of ``values``, the first, the last and even steps between."""
    if len(values) <= most:
        return values
    return [values[round(n * (len(values) - 1) / (most - 1))] for n in range(most)]
