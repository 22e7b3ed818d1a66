"""Calls made up for the tests of projections."""

from __future__ import annotations

from analyzer.insight.projection.calls import Call


def call(**values: object) -> Call:
    """Return a float32 linear layer, with ``values`` in place of its own."""
    preset = {
        "kind": "matmul", "role": "dense math", "op": "aten::linear", "shapes": "4x197x768 3072x768 3072", "dtype": "float32",
        "unit": "vector", "number_format": "float32", "basis": "formula", "unmodelled": "", "is_backward": False, "module": "",
        "kernel": "sgemm", "calls": 1.0, "time_us": 100.0, "flop": 2.0 * 788 * 768 * 3072, "bytes": 1e6, "saving": 1.0,
    }  # fmt: skip
    return Call(**(preset | values))  # type: ignore[arg-type]
