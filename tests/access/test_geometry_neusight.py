"""How many of 12,000 public launches have their order resolved: NeuSight's fp32 products and convolutions on eight GPUs."""

from __future__ import annotations

from collections import Counter

import pandas as pd
import pytest

from analyzer.access.geometry import geometry_of
from analyzer.access.problem import Convolution, Product
from analyzer.access.tiling import Geometry
from tests.conftest import SHARED

TABLE = SHARED / "data" / "neusight_latencies.csv.gz"
COLUMN, ROW, SOME = "column tiles fastest", "row tiles fastest", "several"


def problem_of(family: str, shape: str) -> Product | Convolution:
    """Read NeuSight's shapes: batch, rows, depth, columns; or images, channels, filters, kernel, side, stride, padding."""
    sizes = [int(size) for size in shape.split("x")]
    if family != "conv":
        batch, m, k, n = sizes
        return Product(batch, m, n, k, 4, 4)
    images, channels, filters, kernel, side, stride, padding = sizes
    pairs = [(value, value) for value in (kernel, stride, padding, 1)]
    return Convolution(images, 1, channels, filters, side, side, pairs[0], pairs[1], pairs[2], pairs[3], 4)


@pytest.fixture(scope="module")
def scored() -> pd.DataFrame:
    """One row per launch: operator, kernel family (or the reason), confidence, order."""
    if not TABLE.is_file():
        pytest.skip("NeuSight's table is not here: it lies in ../shared and is not part of the repository")
    table = pd.read_csv(TABLE)
    table = table[table.family.isin(["linear", "bmm", "conv"])]
    rows = []
    for row in table.itertuples():
        grid, block = (row.grid_x, row.grid_y, row.grid_z), (row.block_x, row.block_y, row.block_z)
        found = geometry_of(row.kernel, grid, block, problem_of(row.family, row.shape), None)
        if isinstance(found, Geometry):
            first = found.rasters[0]
            # Panels of one family's swizzle are named by the axis that moves inside them.
            order = SOME if len(found.rasters) > 1 else COLUMN if first.axes[0] == "n" else ROW
            open_order = len(found.rasters) > 1 or found.confidence == "assumed"
            rows.append((row.family, found.family, found.confidence, SOME if open_order else order, row.kernel))
        else:
            rows.append((row.family, found, "refused", "refused", row.kernel))
    return pd.DataFrame(rows, columns=["operator", "family", "confidence", "order", "kernel"])


def share(scored: pd.DataFrame, operator: str) -> float:
    chosen = scored[(scored.operator == operator) & (scored.confidence != "refused")]
    return float((chosen.order != SOME).mean())


def test_orders_are_resolved(scored: pd.DataFrame) -> None:
    counts = scored.groupby(["operator", "family", "confidence", "order"]).size()
    print("\n" + counts.to_string())
    assert share(scored, "linear") >= 0.99
    assert share(scored, "bmm") >= 0.99
    assert share(scored, "conv") >= 0.99
    products = scored[scored.operator == "linear"]
    assert (products.confidence == "exact").mean() >= 0.89


def test_cublas_starts_output_features_first(scored: pd.DataFrame) -> None:
    legacy = scored[(scored.operator == "linear") & scored.kernel.str.contains("^(?:ampere|volta|maxwell)_sgemm")]
    assert len(legacy) > 4000
    assert (legacy.order == COLUMN).all()


def test_the_other_habits(scored: pd.DataFrame) -> None:
    linear = scored[scored.operator == "linear"]
    # xmma starts row tiles; of cuBLAS's kernels for Pascal all follow the rule of groups of two row tiles.
    assert Counter(linear[linear.family == "xmma"].order)[ROW] >= 0.99 * (linear.family == "xmma").sum()
    assert (linear[linear.family == "cuBLAS (Pascal)"].order == ROW).all()
    assert (linear[linear.family == "CUTLASS 2"].order == COLUMN).all()


def test_refused_convolutions_are_winograd_or_fft(scored: pd.DataFrame) -> None:
    refused = scored[scored.confidence == "refused"]
    assert set(refused.operator) == {"conv"}
    assert set(refused.family) <= {"Winograd convolution", "Winograd convolution: its batched product", "FFT convolution"}
