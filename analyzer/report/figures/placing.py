"""Places for labels on logarithmic axes, so that none covers a mark or another label."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

LETTER_IN, LINE_IN = 0.08, 0.15
Box = tuple[float, float, float, float]


@dataclass
class Plan:
    """What is taken on a plot of ``width`` by ``height`` inches with logarithmic ``x`` and ``y`` limits. Boxes in inches."""

    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]
    taken: list[Box] = field(default_factory=list)

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Return a point in inches from the lower left corner."""
        across = math.log10(x / self.x[0]) / math.log10(self.x[1] / self.x[0]) * self.width
        return across, math.log10(y / self.y[0]) / math.log10(self.y[1] / self.y[0]) * self.height

    def slope_degrees(self) -> float:
        """Return the angle at which a line of slope 1 rises."""
        per_decade = self.height / math.log10(self.y[1] / self.y[0]), self.width / math.log10(self.x[1] / self.x[0])
        return math.degrees(math.atan2(*per_decade))

    def mark(self, x: float, y: float, radius: float) -> None:
        """Take the place of a mark."""
        across, up = self.point(x, y)
        self.taken.append((across - radius, up - radius, 2 * radius, 2 * radius))

    def line(self, slope: float) -> None:
        """Take the places along ``y = slope * x``."""
        decades = math.log10(self.x[1] / self.x[0])
        for i in range(121):
            x = self.x[0] * 10 ** (decades * i / 120)
            if self.y[0] < x * slope < self.y[1]:
                self.mark(x, x * slope, 0.03)

    def is_free(self, box: Box) -> bool:
        """Tell whether ``box`` lies inside the plot and on nothing."""
        left, low, width, height = box
        inside = left > 0.03 and left + width < self.width - 0.03 and low > 0.03 and low + height < self.height - 0.03
        return inside and not any(_overlap(box, other) for other in self.taken)

    def slanted(self, start: tuple[float, float], letters: int) -> list[Box]:
        """Return the boxes of a text of ``letters`` that begins at ``start`` (inches) and rises with slope 1."""
        radians = math.radians(self.slope_degrees())
        steps = 10
        part = letters * LETTER_IN * 0.78 / steps
        return [
            (start[0] + i * part * math.cos(radians) - 0.05, start[1] + i * part * math.sin(radians), part, LINE_IN)
            for i in range(steps)
        ]

    def beside(self, x: float, y: float, text: str) -> tuple[float, float]:
        """Return the offset in inches from a mark to the nearest free place for ``text``, and take that place."""
        across, up = self.point(x, y)
        width = len(text) * LETTER_IN
        offsets = ((dx, dy) for dx, dy in _offsets(width) if self.is_free((across + dx, up + dy, width, LINE_IN)))
        dx, dy = next(offsets, (0.12, 0.12))
        self.taken.append((across + dx, up + dy, width, LINE_IN))
        return dx, dy


def _offsets(width: float) -> Iterable[tuple[float, float]]:
    for reach in (0.16, 0.3, 0.45, 0.65, 0.9, 1.2, 1.6, 2.1):
        for dx in (reach, -reach - width, -width / 2):
            for dy in (-LINE_IN / 2, reach, -reach - LINE_IN, reach / 2, -reach / 2 - LINE_IN):
                if dx != -width / 2 or not -reach < dy < reach:
                    yield dx, dy


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
