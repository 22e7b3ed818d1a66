"""How the loops of the access model are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Return ``function`` as machine code, which is kept on disk for the next process.

    It does not hold the interpreter's lock, so that kernels are simulated side by side.
    """
    return cast(Function, njit(cache=True, nogil=True)(function))


def inlined(function: Function) -> Function:
    """Return ``function`` to be copied into compiled ones that use it: a call would count references to its arrays."""
    return cast(Function, njit(nogil=True, inline="always")(function))
