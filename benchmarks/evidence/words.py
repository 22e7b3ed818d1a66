"""Reads the words ``key=value`` of a command line."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence


class WordError(Exception):
    """A word that cannot be meant; the text says which and what to type instead."""


def read_words(given: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return the values of ``given`` by key, those of ``known`` where a key is not given.

    Raises:
        WordError: a word is no ``key=value``, or its key is unknown or comes twice.
    """
    found: dict[str, str] = {}
    for word in given:
        key, sign, value = word.partition("=")
        if not sign or key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}=?" if near else f"known are {', '.join(f'{name}=' for name in known)}"
            raise WordError(f"{word} is not understood: {hint}")
        if key in found:
            raise WordError(f"{key}= is given twice")
        found[key] = value
    return {**known, **found}


def read_number(values: Mapping[str, str], key: str, least: float = 0.0) -> float:
    """Return a number.

    Raises:
        WordError: it is none, or below ``least``.
    """
    try:
        number = float(values[key])
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < least:
        raise WordError(f"{key}={values[key]} is no number from {least:g} on")
    return number


def read_flag(values: Mapping[str, str], key: str) -> bool:
    """Return a flag.

    Raises:
        WordError: neither true nor false.
    """
    text = values[key].lower()
    if text not in ("true", "false"):
        raise WordError(f"{key}={values[key]} is neither true nor false")
    return text == "true"
