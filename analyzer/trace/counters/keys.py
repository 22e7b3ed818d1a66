"""What makes a counted launch equal to one of the trace: a number for each different name, grid and block."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.trace.counters.alignment import Int64
from analyzer.trace.counters.names import name_keys

TIERS = ("whole names", "names without template arguments", "the last part of names")
_TOLD = 0.95
"""Grid or block are compared where this share of the launches on both sides tells them."""


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """A key for each row of a file and for each launch of a trace, and what a match of it is worth: its mean time in ns.

    ``words`` says what was compared. Launches that are no kernels have keys as well, which nobody asks for.
    """

    counted: Int64
    traced: Int64
    weight: Int64
    words: str


def make_keys(rows: pd.DataFrame, launches: pd.DataFrame, kernel: npt.NDArray[np.bool_], tier: int) -> Keys:
    """Return the keys by the names of ``tier``, by grid and by block; ``kernel`` tells which launches are kernels."""
    sides = rows, launches
    parts = [_codes(*(_names(side["kernel"], tier) for side in sides))]
    shapes = []
    for role in ("grid", "block"):
        texts = [side[role].to_numpy(object) for side in sides]
        if not all(_are_told(values) for values in (texts[0], texts[1][kernel])):
            continue
        if any("," not in text for text in pd.unique(texts[0]) if text):  # the file knows totals alone
            texts = [_totals(values) for values in texts]
        parts.append(_codes(*texts))
        shapes.append(role)
    key = parts[0]
    for part in parts[1:]:
        key = pd.factorize(key * (int(part.max(initial=0)) + 1) + part)[0].astype(np.int64)
    counted, traced = key[: len(rows)], key[len(rows) :]
    words = " and ".join([", ".join([TIERS[tier], *shapes[:-1]]), *shapes[-1:]])
    return Keys(counted, traced, _weights(key, traced, launches["dur_ns"].to_numpy(np.int64)), words)


def _names(column: pd.Series[str], tier: int) -> npt.NDArray[np.object_]:
    codes, names = pd.factorize(column.to_numpy(object))
    return np.array([*(name_keys(str(name))[tier] for name in names), ""], object)[codes]


def _codes(one: npt.NDArray[np.object_], two: npt.NDArray[np.object_]) -> Int64:
    return pd.factorize(np.concatenate([one, two]))[0].astype(np.int64)


def _are_told(values: npt.NDArray[np.object_]) -> bool:
    return bool(len(values)) and float(np.mean(values != "")) >= _TOLD


def _totals(values: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Return the number of blocks or threads for each ``x,y,z``; what is a total already stays."""
    codes, texts = pd.factorize(values)
    totals = [str(math.prod(int(n) for n in text.split(","))) if text else "" for text in texts]
    return np.array([*totals, ""], object)[codes]


def _weights(key: Int64, traced: Int64, dur_ns: Int64) -> Int64:
    """Return the mean duration of each key in the trace, at least 1 ns."""
    size = int(key.max(initial=-1)) + 1
    total = np.bincount(traced, weights=dur_ns.astype(np.float64), minlength=size)
    calls = np.maximum(np.bincount(traced, minlength=size), 1)
    return np.maximum(total / calls, 1).astype(np.int64)
