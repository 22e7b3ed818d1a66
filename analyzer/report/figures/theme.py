"""Colours of the figures as CSS variables, so that one drawing serves both themes and print."""

from __future__ import annotations

import re
from typing import Any

import seaborn as sns

from analyzer.trace.kinds import KINDS

_BASE: list[str] = list(sns.color_palette("colorblind").as_hex())

# Neighbours in a stack differ in lightness as well as in hue; outlines and labels carry the rest.
KIND_COLOURS: dict[str, str] = {
    "attention": _BASE[0],
    "matmul": _BASE[1],
    "moe": "#6b2f4f",
    "convolution": _BASE[2],
    "depthwise": _BASE[3],
    "normalisation": _BASE[4],
    "pointwise": _BASE[9],
    "pooling": _BASE[8],
    "reduction": _BASE[6],
    "indexing": _BASE[5],
    "layout": _BASE[7],
    "transfer": "#5f6670",
    "view": "#d9dde2",
    "collective": "#4b3f8f",
    "optimizer": "#7f7f3f",
    "other": "#b8b8b8",
    "unclassified": "#8a8a8a",
}
"""One colour per kind, the same in both themes and in every report: seaborn's colour-blind palette, then muted ones."""

PART_COLOURS: dict[str, str] = {
    "kernel": "#5b4a9c",
    "memcpy": _BASE[8],
    "memset": _BASE[7],
    "runtime": _BASE[4],
    "dataloader": "#7a4a2b",
    "host": "#8fcfae",
}
"""One colour per part of a step, none of them that of a first or second run; the last part is drawn like idle time."""

RUNS = 6
MARKERS = ("o", "^", "s", "D", "v", "P")
INK = ("fg", "muted", "line", "panel", "warn", "idle", "accent")


def kind_name(kind: str) -> str:
    """Return the name of the colour of ``kind``."""
    return f"kind-{kind}" if kind in KIND_COLOURS else "idle"


def _names() -> tuple[str, ...]:
    kinds = [f"{prefix}-{kind}" for kind in KINDS for prefix in ("kind", "on")]
    parts = [f"{prefix}-{part}" for part in PART_COLOURS for prefix in ("part", "on-part")]
    return (*INK, *(f"run-{i}" for i in range(RUNS)), *kinds, *parts)


# Colours that stand for a variable: matplotlib writes them as they are, and nothing else uses them.
_SENTINELS = {name: f"#0b{index + 1:04x}" for index, name in enumerate(_names())}
_VARIABLES = {colour: f"var(--{name})" for name, colour in _SENTINELS.items()}


def colour(name: str) -> str:
    """Return the stand-in for a CSS variable of the page: ``fg``, ``run-0``, ``kind-matmul``, ``on-matmul`` ..."""
    return _SENTINELS[name]


def to_variables(svg: str) -> str:
    """Return ``svg`` with every stand-in replaced by its variable."""
    return re.sub(r"#0b[0-9a-f]{4}\b", lambda found: _VARIABLES.get(found.group(), found.group()), svg)


def variables() -> str:
    """Return the CSS declarations of the colours of kinds and parts of steps, and of the text on them."""
    out = []
    parts = {f"part-{part}": value for part, value in PART_COLOURS.items()}
    named = [(f"kind-{kind}", kind, value) for kind, value in KIND_COLOURS.items()]
    for name, ink, value in [*named, *((part, part, value) for part, value in parts.items())]:
        red, green, blue = (int(value[i : i + 2], 16) / 255 for i in (1, 3, 5))
        luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
        out.append(f"--{name}:{value};--on-{ink}:{'#111' if luminance > 0.18 else '#fff'};")
    return "".join(out)


def chips() -> str:
    """Return the CSS rules that give the chip of each kind its colour."""
    kinds = (f".k-{kind}{{background:var(--kind-{kind})}}" for kind in KIND_COLOURS)
    return "".join(kinds) + ".k-waiting{background:var(--idle)}"


def settings(figure_id: str) -> Any:
    """Return the matplotlib settings of a figure: text as text, fixed ids, every colour a variable."""
    ink, muted, line = colour("fg"), colour("muted"), colour("line")
    return {
        **sns.axes_style("ticks"),
        "svg.fonttype": "none",
        "svg.hashsalt": figure_id,
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 8.5,
        "axes.titlesize": 9.0,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 8.5,
        "axes.labelcolor": muted,
        "axes.titlecolor": ink,
        "axes.edgecolor": muted,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.7,
        "axes.unicode_minus": True,
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
        "grid.color": line,
        "grid.linewidth": 0.6,
        "text.color": ink,
        "xtick.color": muted,
        "ytick.color": muted,
        "xtick.labelcolor": muted,
        "ytick.labelcolor": ink,
        "xtick.labelsize": 8.0,
        "ytick.labelsize": 8.5,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "legend.frameon": False,
        "legend.fontsize": 8.0,
        "legend.labelcolor": ink,
        "patch.edgecolor": ink,
        "patch.linewidth": 0.5,
        "lines.linewidth": 1.2,
    }
