"""A comparison of any number of runs, whatever their devices, models and libraries."""

from analyzer.insight.comparison.compare import compare_runs

__all__ = ["compare_runs"]
