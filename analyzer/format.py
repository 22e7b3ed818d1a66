"""The one place that turns numbers into text, for the page, the terminal and the prose alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from analyzer.schema.evidence import Evidence, Quantity

APPROXIMATELY = "≈ "
MISSING = "n/a"
MAX_RATIO_PLACES = 6


def digits(value: float, significant: int = 3) -> str:
    """Return ``value`` with ``significant`` digits, without exponent, thousands separated by a thin space."""
    if not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    places = significant - 1 - math.floor(math.log10(abs(value)))
    text = f"{round(value, places):,.{max(places, 0)}f}"
    return text.replace(",", "\u202f").replace("-", "−")


def milliseconds(us: float) -> str:
    """Return microseconds as text in µs, ms or s."""
    size = abs(us)
    if size >= 1e6:
        return f"{digits(us / 1e6)} s"
    if size >= 1e3 or size == 0:
        return f"{digits(us / 1e3)} ms"
    return f"{digits(us)} µs"


def signed(us: float) -> str:
    """Return a difference in microseconds with its sign."""
    return f"+{milliseconds(us)}" if us > 0 else milliseconds(us)


def percent(value: float) -> str:
    """Return a percentage: one decimal below 10, none above; ``under 0.1 %`` for traces of something, of either sign."""
    if not math.isfinite(value):
        return MISSING
    if value != 0 and abs(value) < 0.1:
        return "under 0.1 %"
    text = f"{value:.1f}" if abs(value) < 10 else f"{value:.0f}"
    return f"{text} %".replace("-", "−")


def count(value: float) -> str:
    """Return a whole number with thousands separated."""
    return f"{value:,.0f}".replace(",", "\u202f")


def size(value: float) -> str:
    """Return bytes as text in B, KiB, MiB or GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024 or unit == "GiB":
            return f"{digits(value)} {unit}"
        value /= 1024
    return MISSING


def scaled(value: float, unit: str) -> str:
    """Return ``value`` with an SI prefix: ``35.1 GFLOP``."""
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{digits(value / factor)} {prefix}{unit}"
    return f"{digits(value)} {unit}"


def times(ratio: Quantity) -> str:
    """Return a ratio with the digits that its interval allows: ``1.46x``, ``2x``."""
    if ratio.value is None:
        return MISSING
    return f"{ratio.value:.{ratio_places(ratio)}f}x"


def ratio_places(ratio: Quantity) -> int:
    """Return the decimals of a ratio and its ends: two where its interval is narrower than 0.5, one below 5, else none.

    More where the ratio would have fewer than two digits or its lower end none, and where an end would be written as 1 that is
    not: up to two decimals, or as many as it takes where the interval leaves 1 out.
    """
    low, high, value = ratio.low, ratio.high, ratio.value
    places = 2 if low is None or high is None or high - low < 0.5 else 1 if high - low < 5 else 0
    for number, significant in ((value, 2), (low, 1)):
        if number and math.isfinite(number):
            places = max(places, significant - 1 - math.floor(math.log10(abs(number))))
    if low is not None and high is not None:
        most = MAX_RATIO_PLACES if low > 1 or high < 1 else 2
        while places < most and any(end != 1 and float(f"{end:.{places}f}") == 1 for end in (low, high)):
            places += 1
    return min(places, MAX_RATIO_PLACES)


_WRITTEN: dict[str, Callable[[float], str]] = {
    "%": percent, "us": milliseconds, "bytes": size, "count": count, "FLOP": lambda value: scaled(value, "FLOP"),
}  # fmt: skip
"""Units that are written in their own way."""


def quantity(figure: Quantity, significant: int = 3) -> str:
    """Return a figure with its unit; modelled ones carry the approximately sign, unavailable ones say n/a."""
    if figure.value is None:
        return MISSING
    sign = APPROXIMATELY if figure.evidence is Evidence.MODELLED else ""
    if figure.unit in _WRITTEN:
        return sign + _WRITTEN[figure.unit](figure.value)
    return f"{sign}{digits(figure.value, significant)} {figure.unit}".rstrip()


def marked(text: str, evidence: Evidence) -> str:
    """Return ``text`` with the approximately sign where it is modelled, ``n/a`` where it is unavailable."""
    if evidence is Evidence.UNAVAILABLE or text == MISSING:
        return MISSING
    return APPROXIMATELY + text if evidence is Evidence.MODELLED else text


def fixed(value: float, places: int) -> str:
    """Return ``value`` with a fixed number of decimals, for a column whose header carries the unit."""
    if not math.isfinite(value):
        return MISSING
    text = f"{value:,.{places}f}".replace(",", "\u202f").replace("-", "−")
    return text.removeprefix("−") if not any(digit in text for digit in "123456789") else text


def fixed_signed(value: float, places: int) -> str:
    """Return a difference with a fixed number of decimals and its sign."""
    text = fixed(value, places)
    return f"+{text}" if value > 0 and text != MISSING and any(digit in text for digit in "123456789") else text


def interval(figure: Quantity, significant: int = 3) -> str:
    """Return the interval of a figure, ``78.8 to 84.4 ms``; empty where it has none."""
    if figure.low is None or figure.high is None:
        return ""
    if figure.unit == "x":
        places = ratio_places(figure)
        return f"{figure.low:.{places}f}x to {figure.high:.{places}f}x"
    return f"{digits(figure.low, significant)} to {digits(figure.high, significant)} {figure.unit}".rstrip()


def axis_unit(largest_us: float) -> tuple[float, str]:
    """Return the microseconds in the unit that suits an axis up to ``largest_us``, and the unit's name."""
    if largest_us >= 10e6:
        return 1e6, "s"
    return (1e3, "ms") if largest_us >= 1e3 else (1.0, "µs")


def decade(value: float) -> str:
    """Return a power of ten for a logarithmic axis: ``0.01``, ``1``, ``1 000``."""
    return count(value) if value >= 1 else f"{value:.12f}".rstrip("0")


def counted(number: float, one: str, many: str) -> str:
    """Return a count with its noun: ``1 process``, ``2 processes``."""
    return f"{count(number)} {one if number == 1 else many}"


def input_size(pixels: int | None, shape: Sequence[int]) -> str:
    """Return the size of a model's input: the ``pixels`` of its images, or the whole ``shape`` where these do not say it."""
    return f"{pixels} px" if pixels else f"input {'×'.join(map(str, shape))}"
