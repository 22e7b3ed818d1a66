"""Predicted against measured: what the models say of kernels whose hardware counters are known."""

from __future__ import annotations

from analyzer.insight.validation.validation import validate_analyses, validation_of

__all__ = ["validate_analyses", "validation_of"]
