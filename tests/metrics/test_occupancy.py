"""Occupancy against NVIDIA's own calculator and against Kineto."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from analyzer.hardware.capability import sm_limits
from analyzer.metrics.occupancy import add_occupancy, residency
from analyzer.schema.run import DeviceFacts
from analyzer.trace.kineto import read_trace
from analyzer.trace.link import link
from tests.conftest import SHARED


def test_a_hopper_gemm_by_hand() -> None:
    """384 threads, 168 registers, 96 KiB: 12 warps; registers 168*32 -> 5376; 65536/4//5376 = 3 per part, 12 warps: 1 block."""
    limits = sm_limits("9.0")
    assert limits is not None
    fit = residency(limits, 384, 168, 98304)
    assert (fit.blocks, fit.warps, fit.occupancy_pct, fit.limit) == (1, 12, 18.75, "registers")
    assert residency(limits, 384, 168, 98304, mode="kineto").blocks == 0


def test_nvidia_vectors() -> None:
    path = SHARED / "data" / "occupancy_golden.csv"
    if not path.is_file():
        pytest.skip("occupancy_golden.csv lies in ../shared, which is not here")
    rows = list(csv.DictReader(path.open()))
    assert len(rows) == 1200
    for row in rows:
        limits = sm_limits(row["compute_capability"])
        assert limits is not None
        shared = int(row["static_smem_bytes"]) + int(row["dynamic_smem_bytes"])
        mode = "kineto" if row["mode"] == "kineto_default" else "true"
        fit = residency(limits, int(row["block_size"]), int(row["regs_per_thread"]), shared, mode)
        assert fit.blocks == int(row["active_blocks_per_sm"]), row


def test_kineto_agrees_below_48_kib_and_reads_zero_above(public_traces: object) -> None:
    trace = read_trace(SHARED / "traces-public" / "tracelens_h100_vit_nsfw_infer.json.gz")
    kernels = add_occupancy(link(trace).launches, trace.device)
    kernels = kernels[kernels["category"] == "kernel"]
    small = kernels["shared_bytes"] <= 48 * 1024
    off = (kernels.loc[small, "occupancy_pct"] - kernels.loc[small, "occupancy_kineto_pct"]).abs()
    assert off.max() <= 0.51
    assert (kernels.loc[~small, "occupancy_kineto_pct"] == 0).all()
    assert (kernels.loc[~small, "occupancy_pct"] > 0).all()
    weights = kernels["dur_ns"]
    assert np.average(kernels["occupancy_pct"], weights=weights) == pytest.approx(19.6, abs=0.05)
    assert np.average(kernels["occupancy_kineto_pct"], weights=weights) == pytest.approx(14.1, abs=0.05)


def test_amd_has_no_occupancy(public_traces: object) -> None:
    trace = read_trace(SHARED / "traces-public" / "tracelens_mi300_vit_nsfw_infer.json.gz")
    assert add_occupancy(link(trace).launches, trace.device)["occupancy_pct"].isna().all()


def test_absurd_geometry_is_unknown() -> None:
    device = DeviceFacts(type="cuda", name="x", vendor="NVIDIA", compute_capability="9.0", sm_count=132)
    import pandas as pd

    rows = pd.DataFrame(
        {
            "grid": ["1,1,1", "0,1,1", ""],
            "block": ["4096,1,1", "32,1,1", "32,1,1"],
            "registers": [32.0] * 3,
            "shared_bytes": [0.0] * 3,
        }
    )
    assert add_occupancy(rows, device)["occupancy_pct"].isna().all()
