"""Rules on a GPU that waits: for its host, for short kernels, inside synchronising calls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from analyzer.analysis import analyze
from analyzer.insight.rules.host import host_bound, short_kernels, synchronising
from tests import traces
from tests.insight.test_rules_kernels import MATRIX, Run, fired, mm, told, trace
from tests.report.synthetic import Fake, write_run


def test_host_bound(tmp_path: Path) -> None:
    a = analyze(traces.write(tmp_path / "t.json", traces.document(traces.gpu_step())))
    found = fired(host_bound(a), 0, 700, without_work=70, idle_time=700, with_work=300, kernels=2)
    assert "The profiler slows the host" in found.claim
    assert "No pause is longer than" in found.claim
    assert host_bound(trace(tmp_path, mm(MATRIX, "sm90_xmma_gemm_f16f16", 200.0))) is None


def test_long_pauses_are_not_for_a_graph_to_save(tmp_path: Path) -> None:
    events = [*traces.gpu_step(), traces.note("ProfilerStep#4", 1000, 4000)]
    a = analyze(traces.write(tmp_path / "t.json", traces.document(events)))
    # idle 0-100, 250-350, 450-500 and, as one long pause, 550-5000
    found = fired(host_bound(a), 0, 250 / 2, idle_time=4700 / 2, long_pauses=4450 / 2)
    assert "Launching less often shortens only the rest" in found.claim
    assert "with_stack" in found.claim
    # 250 of 5000 us are short pauses; the title is about them, as the saving is
    assert found.title == "Short pauses between kernels take 5.0 % of the traced time"


def test_what_was_not_selected_is_no_pause(tmp_path: Path) -> None:
    a = analyze(traces.write(tmp_path / "t.json", traces.document(traces.gpu_step())))
    later = tuple(np.concatenate((part, part + shift)) for part, shift in zip(a.segments, (10**8, 10**8, 0), strict=True))
    start, end = a.window.start_ns, a.window.end_ns
    window = replace(a.window, end_ns=end + 10**8, stretches=((start, end), (start + 10**8, end + 10**8)))
    totals = replace(a.totals, wall_us=2000.0, idle_us=1400.0, busy_us=600.0)
    # the longest pause inside a stretch is 450 us; between the stretches lie 99 ms
    found = fired(host_bound(replace(a, segments=later, window=window, totals=totals)), 0, 1400, idle_time=1400, long_pauses=0)
    assert "No pause is longer than" in found.claim


def test_kernels_of_a_graph_are_one_launch(tmp_path: Path) -> None:
    a = analyze(traces.write(tmp_path / "t.json", traces.document(traces.gpu_step())))
    kernels = a.launches[a.launches["category"] == "kernel"]
    graph = pd.concat([kernels.head(1)] * 5, ignore_index=True).assign(link="graph", correlation=77, graph_id=-1)
    mixed = replace(a, launches=pd.concat([a.launches, graph], ignore_index=True))
    found = host_bound(mixed)
    assert found is not None
    told(found, one_by_one=2, graphs_launched=1, kernels_in_graphs=5)
    assert "launches 2 kernels one by one and 1 graph with 5 kernels per step" in found.claim
    assert "Most kernels come from CUDA graphs already" in found.claim
    # Kineto of 2026 writes graph 0 for a kernel of none
    alone = host_bound(replace(a, launches=a.launches.assign(graph_id=0)))
    assert alone is not None
    assert "launches 2 kernels per step" in alone.claim


def test_what_the_host_does_while_the_gpu_is_idle(tmp_path: Path) -> None:
    # no steps: 2000 us in one call, then a kernel of 100 us from 2100 to 2200, with 50 us before its launch
    call = traces.launch(0, 0, name="cudaFree") | {"dur": 2000}
    events = [call, traces.launch(2050, 1), traces.kernel("k", 2100, 100, 1)]
    a = analyze(traces.write(tmp_path / "t.json", traces.document(events)))
    found = host_bound(a)
    assert found is not None
    assert a.totals.idle_us == 2100
    # the launch itself takes 2 us
    told(found, inside_calls_of_the_runtime=100 * 2002 / 2100, with_work=100)
    assert "the host spends 95 % inside calls of the runtime or driver." in found.claim
    assert "record after a warm-up" in found.claim
    assert "no launch" not in found.claim
    assert "with_stack" not in found.claim
    assert found.disproof.startswith("Time the same work without the profiler")


def test_pauses_for_a_data_loader(tmp_path: Path) -> None:
    load = traces.note("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 1000, 3000)
    events = [*traces.gpu_step(), traces.note("ProfilerStep#4", 1000, 4000), load]
    found = host_bound(analyze(traces.write(tmp_path / "t.json", traces.document(events))))
    assert found is not None
    told(found, waiting_for_a_data_loader=100 * 3000 / 4700)
    assert "Loader processes, or more of them" in found.claim


def test_host_bound_of_a_timed_run(tmp_path: Path) -> None:
    a = analyze(write_run(tmp_path, Fake(latency_ms=5.4, idle_us=200.0)))
    assert a.latency is not None
    assert a.totals.idle is not None
    # a step: six blocks of 192.625 us, each 1 % longer than the one before, and a copy of 1.5 us
    busy = 192.625 * 6.15 + 1.5
    idle = 1e3 * a.latency.median_ms.value - busy
    share = (a.totals.idle.host_us + a.totals.idle.launch_us) / a.totals.idle_us
    found = fired(host_bound(a), share * (idle - 20 - 24 * 1.5), idle, with_work=busy, idle_time=idle, kernels=24)
    assert "profiler" not in found.claim
    assert "Double the batch" in found.disproof


def test_short_kernels(tmp_path: Path) -> None:
    add = Run("aten::add", [[1024], [1024]], "vectorized_elementwise_kernel_add", 2.0, "float")
    long = mm(MATRIX, "sm90_xmma_gemm_f16f16", 180.0)
    floor = 10 * 3 * 4096 / 3350e3
    a = trace(tmp_path, long, *[add] * 10)
    found = fired(short_kernels(a), 0, 20 - floor, share=10, kernels=11, short_kernels=10, floor=floor)
    assert "10 of 11 kernels per step" in found.claim
    assert short_kernels(trace(tmp_path, long, *[replace(add, us=20.0)] * 10)) is None


def test_short_kernels_on_a_gpu_that_waits(tmp_path: Path) -> None:
    short = traces.kernel("vectorized_elementwise_kernel_add", 600, 2, 14, ext=3)
    events = [*traces.gpu_step()[:7], *[short | {"ts": 600 + 10 * i} for i in range(20)]]
    found = short_kernels(analyze(traces.write(tmp_path / "t.json", traces.document(events))))
    assert found is not None
    told(found, without_work=96)
    assert "shorter kernels may not save time" in found.claim


def test_short_kernels_near_their_floor_are_fine(tmp_path: Path) -> None:
    # 3 x 4 MiB take 3.756 us at 3350 GB/s
    add = Run("aten::add", [[1024, 1024]] * 2, "vectorized_elementwise_kernel_add", 4.0, "float")
    assert short_kernels(trace(tmp_path, *[add] * 10)) is None


def test_synchronising(tmp_path: Path) -> None:
    wait = traces.launch(550, 0, name="cudaStreamSynchronize") | {"dur": 350}
    a = analyze(traces.write(tmp_path / "t.json", traces.document([*traces.gpu_step(), wait])))
    fired(synchronising(a), 0, 350, share=35, synchronising=350)
    assert synchronising(analyze(traces.write(tmp_path / "t.json", traces.document(traces.gpu_step())))) is None
