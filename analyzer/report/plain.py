"""Values fit for a file: JSON has no word for NaN, and UTF-8 none for half a character."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from analyzer.report.text import visible


def plain(value: Any) -> Any:
    """Replace NaN and infinity by None, and take control and bidi characters and surrogates out of every text."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(key) if isinstance(key, str) else key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
