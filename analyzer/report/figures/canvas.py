"""From a matplotlib figure to SVG that can stand inside a page: no ids in common, no metadata, no colours of its own."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from analyzer.report.figures.theme import settings, to_variables

WIDTH_IN = 9.6
"""The text column of 960 px; at 72 points per inch one point of the drawing is 1.39 px on the page."""


@dataclass(frozen=True, slots=True)
class Margins:
    """Where the axes of a figure stand, as shares of its width and height; ``between`` is the room between two of them."""

    left: float
    bottom: float
    right: float
    top: float
    between: float = 0.1


def draw(
    figure_id: str,
    height_in: float,
    title: str,
    description: str,
    paint: Callable[[Figure], None],
    margins: Margins | None = None,
) -> str:
    """Return the drawing that ``paint`` makes on an empty figure as inline SVG.

    No pyplot: the figure belongs to nobody else and goes with this call. Without ``margins`` matplotlib lays the figure out
    around its labels, which takes as long as drawing it.
    """
    with mpl.rc_context(settings(figure_id)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of glyphs that the measuring font lacks; the browser has its own fonts
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained" if margins is None else None)
        if margins:
            sides = {"left": margins.left, "bottom": margins.bottom, "right": margins.right, "top": margins.top}
            figure.subplots_adjust(**sides, hspace=margins.between)
        canvas = FigureCanvasSVG(figure)
        paint(figure)
        buffer = io.StringIO()
        # savefig would lay out and draw everything once before it draws the same again
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})  # type: ignore[no-untyped-call]
    return _inline(buffer.getvalue(), figure_id, title, description)


def legend(figure: Figure, handles: Sequence[Artist], columns: int, **spacing: float) -> None:
    """Put a legend of ``columns`` into the upper left corner of a figure with margins."""
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, 1), ncols=columns, **spacing)


def _inline(svg: str, figure_id: str, title: str, description: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href", "href")
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{figure_id}-{m.group(1)}"' if m.group(1) in used else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{figure_id}-", svg)
    svg = re.sub(r"font: ?(?:[a-z]+ )?(?:(\d+|bold) )?([\d.]+px) [^;\"]*", _font, svg)
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag.group()), svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    view = re.search(r'viewBox="([^"]+)"', svg)
    box = view.group(1) if view else "0 0 100 100"
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    names = f'<title id="{figure_id}-title">{escape(title)}</title><desc id="{figure_id}-desc">{escape(description)}</desc>'
    head = f'<svg viewBox="{box}" role="img" aria-labelledby="{figure_id}-title" aria-describedby="{figure_id}-desc">'
    return to_variables(f"{head}{names}{body}")


def _font(found: re.Match[str]) -> str:
    """Keep size and weight; the family is the page's."""
    weight = f"font-weight: {found.group(1)}; " if found.group(1) else ""
    return f"{weight}font-size: {found.group(2)}"
