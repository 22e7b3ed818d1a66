"""Run directories made up for the tests: every file that a capture writes, on a CPU or a GPU that nobody has."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyzer.schema.run import (
    Ceiling,
    DeviceFacts,
    MemoryFacts,
    ModelFacts,
    PassFacts,
    RunFacts,
    RunSettings,
    SourceFacts,
    TelemetryFacts,
    WarmupFacts,
)
from analyzer.schema.tables import SAMPLES, TIMINGS
from analyzer.trace.rundir import SAMPLES_FILE, TIMINGS_FILE, TRACE_FILE, write_facts, write_table

UNIX_NS = 1_790_000_000_000_000_000
BATCH = 32

# operator, input shapes, kernel, grid, block, registers, shared memory, microseconds
VIT = [
    ("aten::addmm", [[2304], [6304, 768], [768, 2304]], "sm90_xmma_gemm_bf16_tn", [72, 2, 1], [384, 1, 1], 168, 200000, 95.25),
    ("aten::_flash_attention_forward", [[32, 197, 12, 64]] * 3, "void flash::flash_fwd_kernel<Traits<64, 128>>(Params)",
     [2, 32, 12], [128, 1, 1], 200, 81920, 60.125),
    ("aten::native_layer_norm", [[32, 197, 768], [], [768], [768]], "void at::native::vectorized_layer_norm_kernel<float>(int)",
     [6304, 1, 1], [32, 4, 1], 32, 24, 14.5),
    ("aten::gelu", [[32, 197, 3072]], "void at::native::vectorized_elementwise_kernel<4, Gelu>(int)", [1200, 1, 1], [128, 1, 1], 40,
     0, 22.75),
]  # fmt: skip
CNN = [
    ("aten::cudnn_convolution", [[32, 256, 28, 28], [256, 256, 3, 3]], "sm90_xmma_fprop_implicit_gemm_bf16", [98, 2, 1],
     [256, 1, 1], 200, 98304, 55.5),
    ("aten::cudnn_convolution", [[32, 256, 28, 28], [256, 256, 3, 3]], "void cudnn::ops::nchwToNhwcKernel<half>(int)",
     [800, 1, 1], [256, 1, 1], 40, 0, 8.25),
    ("aten::clamp_min_", [[32, 256, 28, 28]], "void at::native::vectorized_elementwise_kernel<4, Relu>(int)", [1500, 1, 1],
     [128, 1, 1], 28, 0, 9.0),
    ("aten::made_up_operator", [[32, 256, 28, 28]], "mystery_kernel", [64, 1, 1], [128, 1, 1], 28, 0, 2.125),
]  # fmt: skip


@dataclass
class Fake:
    """What to make up. ``names`` replaces kernel names, in order of the list of the family."""

    family: str = "vit"
    device: str = "cuda"
    label: str = ""
    names: list[str] = field(default_factory=list)
    latency_ms: float = 5.4
    steps: int = 3
    blocks: int = 6
    iterations: int = 60
    repeats: int = 2
    idle_us: float = 3.0
    held: bool = False
    warnings: tuple[str, ...] = ()
    command: tuple[str, ...] = ("analyzer", "batch_size=32")


def write_run(root: Path, fake: Fake) -> Path:
    """Write a run directory and return it."""
    directory = root / f"{fake.family}-{fake.device}"
    directory.mkdir(parents=True)
    with gzip.open(directory / TRACE_FILE, "wt") as file:
        json.dump(trace(fake), file)
    write_table(directory / TIMINGS_FILE, _timings(fake), TIMINGS)
    write_table(directory / SAMPLES_FILE, _samples(fake), SAMPLES)
    write_facts(directory, _facts(fake, directory.name))
    return directory


def trace(fake: Fake) -> dict[str, Any]:
    """Return a Kineto trace of ``steps`` steps; on a CPU the operators stand alone."""
    events: list[dict[str, Any]] = []
    at, correlation = 1000.0, 0
    layers = VIT if fake.family == "vit" else CNN
    gpu = fake.device == "cuda"
    for step in range(fake.steps):
        begin = at
        for block in range(fake.blocks):
            for i, (op, shapes, kernel, grid, threads, registers, shared, us) in enumerate(layers):
                correlation += 1
                length = us * (1 + 0.01 * block)
                name = fake.names[i % len(fake.names)] if fake.names else kernel
                shown = (name if fake.names else op) if not gpu else op
                args = {"External id": correlation, "Input Dims": shapes, "Input type": ["c10::BFloat16"] * len(shapes)}
                events.append(_event("cpu_op", shown, at, length if not gpu else 2.0, args))
                if gpu:
                    events.append(_event("cuda_runtime", "cudaLaunchKernel", at + 0.5, 1.0, {"correlation": correlation}))
                    facts = {"device": 0, "stream": 7, "correlation": correlation, "grid": grid, "block": threads,
                             "registers per thread": registers, "shared memory": shared, "est. achieved occupancy %": 0}  # fmt: skip
                    events.append(_event("kernel", name, at + 3.0, length, facts, tid=7))
                at += length + fake.idle_us
        if gpu:
            correlation += 1
            events.append(_event("cuda_runtime", "cudaMemcpyAsync", at, 1.0, {"correlation": correlation}))
            copy = {"device": 0, "stream": 7, "correlation": correlation, "bytes": 4096}
            events.append(_event("gpu_memcpy", "Memcpy DtoH", at + 3.0, 1.5, copy, tid=7))
            at += 8.0
        events.append(_event("user_annotation", f"ProfilerStep#{step + 1}", begin - 1, at - begin, {}))
        at += 20.0
    properties = [{"id": 0, "name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85_000_000_000, "computeMajor": 9,
                   "computeMinor": 0, "numSms": 132}]  # fmt: skip
    return {"traceEvents": events, "deviceProperties": properties if gpu else [], "baseTimeNanoseconds": UNIX_NS}


def _event(cat: str, name: str, ts: float, dur: float, args: dict[str, Any], tid: int = 1) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "ts": round(ts, 3), "dur": round(dur, 3), "pid": 1, "tid": tid, "args": args}


def _timings(fake: Fake) -> pd.DataFrame:
    random = np.random.default_rng(len(fake.family) + fake.iterations)
    rows = []
    for repeat in range(fake.repeats):
        for kind, n, factor in (("warmup", 5, 1.5), ("untraced", fake.iterations, 1.0), ("traced", fake.steps, 1.2)):
            if kind == "traced" and repeat:
                continue
            for i in range(n):
                latency = fake.latency_ms * factor * (1 + abs(random.normal(0, 0.01)))
                rows.append((kind, repeat, i, UNIX_NS + i * 6_000_000, latency))
    return pd.DataFrame(rows, columns=TIMINGS.names)


def _samples(fake: Fake) -> pd.DataFrame:
    n = 120
    time = np.arange(n) * 100_000_000
    wave = np.sin(np.arange(n) / 9)
    frame = pd.DataFrame({name: np.full(n, np.nan) for name in SAMPLES.names})
    frame = frame.assign(time_ns=UNIX_NS + time, monotonic_ns=time, cpu_pct=100 + 20 * wave, cpu_mhz=2600.0,
                         rss_bytes=(900 + 2 * np.arange(n)) * 2.0**20)  # fmt: skip
    if fake.device == "cuda":
        reasons = np.where((np.arange(n) > 60) & (np.arange(n) < 80), 4.0, 0.0) if fake.held else np.zeros(n)
        frame = frame.assign(
            sm_clock_mhz=1980 - 200 * (reasons > 0), clock_event_reasons=reasons, power_instant_w=520 + 120 * wave,
            power_average_w=520.0, temperature_c=48 + np.arange(n) / 10, gpu_memory_bytes=2.5e9, gpm_sm_occupancy_pct=35 + 5 * wave,
            gpm_tensor_pct=42 + 8 * wave, gpm_dram_pct=30 - 5 * wave,
        )  # fmt: skip
        frame.loc[5:8, "power_instant_w"] = np.nan
    return frame


def _facts(fake: Fake, name: str) -> RunFacts:
    gpu = fake.device == "cuda"
    device = (
        DeviceFacts(type="cuda", name="NVIDIA H100 80GB HBM3", vendor="NVIDIA", compute_capability="9.0", sm_count=132,
                    memory_bytes=85_000_000_000, l2_bytes=52_428_800, power_limit_w=500.0, power_default_w=700.0)
        if gpu else DeviceFacts(type="cpu", name="Made-up CPU", cores=2, threads=2)
    )  # fmt: skip
    passes = [("warmup", 0.0, 1.0), ("untraced", 2.0, 8.0), ("traced", 9.0, 10.0)]
    there, gone = SourceFacts(available=True), SourceFacts(available=False, reason="the model runs on the CPU")
    ceilings = () if gpu else (
        Ceiling(name="copy", unit="GB/s", dtype="bfloat16", value=30.0, low=29.0, high=31.0, n=30, size="256 MiB"),
        Ceiling(name="matmul", unit="TFLOP/s", dtype="bfloat16", value=900.0, low=880.0, high=910.0, n=11, size="2560^3"),
    )  # fmt: skip
    return RunFacts(
        format_version=1, name=name, created_utc="2026-11-22T15:00:00+00:00", device=device,
        model=ModelFacts(name="vit_base_patch16_224" if fake.family == "vit" else "convnext_base", family=fake.family,
                         label=fake.label or ("ViT-B/16" if fake.family == "vit" else "ConvNeXt-B"), parameters=86_567_656,
                         input_shape=(BATCH, 3, 224, 224)),
        settings=RunSettings(batch_size=BATCH, image_size=224, dtype="bfloat16", iterations=fake.iterations,
                             traced_steps=fake.steps, repeats=fake.repeats, threads=2),
        versions={"torch": "2.13.0", "cuda": "13.0", "driver": "580.65"}, warmup=WarmupFacts(iterations=5, steady=True, spread_pct=1.0),
        memory=MemoryFacts(peak_bytes=2_400_000_000, kind="peak allocated by torch"),
        telemetry=TelemetryFacts(period_s=0.1, samples=120, psutil=there, nvml=there if gpu else gone, gpm=there if gpu else gone),
        ceilings=ceilings,
        passes=tuple(PassFacts(name=n, start_unix_ns=UNIX_NS + int(a * 1e9), end_unix_ns=UNIX_NS + int(b * 1e9), steps=5)
                     for n, a, b in passes),
        warnings=fake.warnings, command=fake.command,
    )  # fmt: skip
