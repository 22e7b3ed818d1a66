"""What capture writes about a GPU is what the reader and the metrics look for: the seam that no machine without one runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from analyzer.capture import environment
from analyzer.hardware.lookup import find_sheet
from analyzer.metrics.occupancy import add_occupancy
from analyzer.trace.kineto import read_trace
from analyzer.trace.link import link
from tests import traces


def test_facts_of_a_gpu_give_its_datasheet_and_occupancy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    properties = SimpleNamespace(
        name="NVIDIA H100 80GB HBM3", major=9, minor=0, multi_processor_count=132, total_memory=85018279936,
        L2_cache_size=52428800, clock_rate=1980000, memory_clock_rate=2619000, memory_bus_width=5120,
    )  # fmt: skip
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    facts = environment.device_facts(torch.device("cuda:0"))
    assert (facts.clock_mhz, facts.memory_clock_mhz, facts.l2_bytes) == (1980, 2619, 50 * 2**20)
    sheet = find_sheet(facts)
    assert sheet is not None
    assert sheet.key == "h100_sxm5_80gb"
    trace = read_trace(traces.write(tmp_path / "t.json", traces.document(traces.gpu_step())))
    assert (trace.device.vendor, trace.device.compute_capability) == (facts.vendor, facts.compute_capability)
    kernels = add_occupancy(link(trace).launches, facts)
    assert (kernels.loc[kernels["category"] == "kernel", "occupancy_pct"] > 0).all()
