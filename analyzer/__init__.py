"""Profiles Vision Transformer and CNN inference and explains the speed gap between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analyzer.analysis import analyze as analyze
    from analyzer.analysis import compare as compare

__version__ = "0.1.0"
__all__ = ["__version__", "analyze", "compare"]


def __getattr__(name: str) -> Any:
    """Load the public functions on first use, so that the command line starts without pandas."""
    if name in ("analyze", "compare"):
        from analyzer import analysis

        return getattr(analysis, name)
    raise AttributeError(f"module 'analyzer' has no attribute '{name}'")
