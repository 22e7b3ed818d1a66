"""The page of ``task=compare``: any number of runs side by side."""

from __future__ import annotations

from analyzer.report.comparison.page import write_comparison

__all__ = ["write_comparison"]
