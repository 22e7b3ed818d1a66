"""Digests written by hand: every figure in them is chosen, so that every figure of a comparison can be worked out on paper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analyzer.insight.digest import hardware
from analyzer.insight.ledger import ALONE, PER_STEP, UNTRACED
from analyzer.metrics.timing import latency
from analyzer.schema.digest import DIGEST_GROUPS, DIGEST_KINDS, Digest, Telemetry
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.ledger import Ledger, Scaling
from analyzer.schema.results import Totals
from analyzer.schema.run import DeviceFacts, ModelFacts, RunFacts, RunSettings, WarmupFacts
from analyzer.trace.kinds import ROLES

Op = tuple[str, str, str, str, float]
"""Kind, operator, shapes, module and µs per batch."""

H100 = DeviceFacts(type="cuda", name="NVIDIA H100 80GB HBM3", vendor="NVIDIA", compute_capability="9.0", sm_count=132)
A100 = DeviceFacts(type="cuda", name="NVIDIA A100-SXM4-80GB", vendor="NVIDIA", compute_capability="8.0", sm_count=108)
MI300X = DeviceFacts(type="cuda", name="AMD Instinct MI300X", vendor="AMD", compute_capability="9.4", sm_count=304)
CPU = DeviceFacts(type="cpu", name="AMD EPYC", vendor="AMD", threads=2)

VIT: tuple[Op, ...] = (
    ("matmul", "aten::linear", "32x197x768 3072x768 3072", "blocks.0.mlp.fc1", 300.0),
    ("matmul", "aten::linear", "32x197x3072 768x3072 768", "blocks.0.mlp.fc2", 300.0),
    ("attention", "aten::_scaled_dot_product_flash_attention", "32x12x197x64 32x12x197x64 32x12x197x64", "blocks.0.attn", 200.0),
    ("normalisation", "aten::native_layer_norm", "32x197x768 768 768", "blocks.0.norm1", 100.0),
    ("pointwise", "aten::gelu", "32x197x3072", "blocks.0.mlp.act", 100.0),
)  # fmt: skip
CNN: tuple[Op, ...] = (
    ("convolution", "aten::cudnn_convolution", "32x3x224x224 64x3x7x7", "conv1", 400.0),
    ("normalisation", "aten::cudnn_batch_norm", "32x64x112x112 64 64 64 64", "bn1", 200.0),
    ("pointwise", "aten::relu_", "32x64x112x112", "relu", 200.0),
)


def run_facts(family: str = "vit", label: str = "ViT-B/16", device: DeviceFacts = H100, **settings: Any) -> RunFacts:
    given: dict[str, Any] = {"batch_size": 32, "image_size": 224, "dtype": "bfloat16", "iterations": 20, "traced_steps": 5}
    return RunFacts(
        format_version=1,
        name="run",
        created_utc="2026-01-01T00:00:00Z",
        device=device,
        model=ModelFacts(name=label.lower(), family=family, label=label, parameters=86_000_000, input_shape=(32, 3, 224, 224)),
        settings=RunSettings(**(given | settings)),
        versions={"torch": "2.13.0", "cuda": "13.0"},
        warmup=WarmupFacts(iterations=10, steady=True, spread_pct=1.0),
    )


def groups(ops: tuple[Op, ...], steps: int = 5, dtype: str = "bfloat16", jitter: float = 0.002) -> pd.DataFrame:
    """Return groups whose steps deviate by ``jitter`` up and down, so that their mean is the time given."""
    signs = np.resize([1.0, -1.0], steps)
    if steps % 2:
        signs[-1] = 0.0
    rows = []
    for kind, op, shapes, module, us in ops:
        each = tuple((us * (1 + jitter * signs)).tolist())
        rows.append((ROLES[kind], kind, op, shapes, dtype, module, 1.0, us, us * 1e6, us * 1e3, (f"{op}_kernel",), each))
    return pd.DataFrame(rows, columns=list(DIGEST_GROUPS)).sort_values("time_us", ascending=False, ignore_index=True)


def kinds(table: pd.DataFrame) -> pd.DataFrame:
    sums = table.groupby(["role", "kind"], sort=False)[["calls", "time_us", "flop", "bytes_compulsory"]].sum().reset_index()
    sums = sums.assign(floor_us=sums["time_us"] / 2, modelled_us=sums["time_us"])
    return sums[list(DIGEST_KINDS)]


def samples(ms: float, repeats: int = 3, n: int = 12, spread: float = 0.001, between: float = 0.0) -> pd.DataFrame:
    """Return untraced timings whose median is ``ms``: each process deviates by up to ``between``, its iterations by ``spread``."""
    rows = []
    for repeat, shift in enumerate(np.linspace(-between, between, repeats)):
        for i, wiggle in enumerate(np.linspace(-spread, spread, n)):
            rows.append(("untraced", repeat, i, 0, ms * (1 + shift + wiggle)))
    rows.append(("traced", 0, 0, 0, ms * 1.02))
    return pd.DataFrame(rows, columns=["pass", "repeat", "iteration", "start_unix_ns", "latency_ms"])


def totals(busy_us: float, wall_us: float, count: int) -> Totals:
    missing = Quantity.missing("%", "not looked at")
    return Totals(
        wall_us, busy_us, count, 0.0, busy_us, wall_us - busy_us, 0.0, 100.0, 100.0, 100.0, 1.0, 1.0, missing, missing
    )


def made(
    name: str = "a", ops: tuple[Op, ...] = VIT, *, device: DeviceFacts = H100, facts: RunFacts | None = None,
    timings: pd.DataFrame | None = None, batch_ms: float = 1.1, steps: int | None = 5, bare: bool = False, dtype: str = "bfloat16",
    jitter: float = 0.002, clock_mhz: float | None = None,
) -> Digest:  # fmt: skip
    """Return a digest with ``ops``; ``bare`` leaves out what only run directories hold, ``steps=None`` makes a whole trace."""
    facts = None if bare else facts or run_facts(device=device, dtype=dtype)
    table = groups(ops, steps or 0, dtype, jitter)
    found = None if bare else latency(samples(batch_ms) if timings is None else timings)
    total_us = found.median_ms.value * 1e3 if found is not None and found.median_ms.value else batch_ms * 1e3
    low, high = (found.median_ms.low, found.median_ms.high) if found is not None else (None, None)
    basis = ALONE if not steps else PER_STEP if bare else UNTRACED
    return Digest(
        name=name,
        label=facts.model.label if facts else name,
        family=facts.model.family if facts else "",
        trace=f"{name}.json.gz",
        device=device,
        hardware=hardware(device),
        facts=facts,
        dtype=dtype,
        batch_size=facts.settings.batch_size if facts else None,
        image_size=facts.settings.image_size if facts else None,
        tokens=None,
        window="all steps",
        steps=steps,
        batches=steps,
        totals=totals(float(table["time_us"].sum()), total_us, len(table)),
        latency=found,
        ledger=Ledger(
            name, basis, total_us, None if low is None else low * 1e3, None if high is None else high * 1e3, (),
            Scaling(total_us, total_us, 1.0, 0.0), None, None,
        ),
        kinds=kinds(table),
        groups=table,
        telemetry=telemetry(clock_mhz),
        peak_memory=Quantity.missing("bytes", "not looked at"),
    )  # fmt: skip


def telemetry(clock_mhz: float | None) -> Telemetry | None:
    if clock_mhz is None:
        return None
    measured = Evidence.MEASURED
    return Telemetry(
        Quantity(clock_mhz, "MHz", measured),
        Quantity(500.0, "W", measured),
        Quantity(60.0, "°C", measured),
        Quantity(0.55, "J", measured),
    )


def scaled(ops: tuple[Op, ...], factor: float, kind: str = "") -> tuple[Op, ...]:
    """Return ``ops`` with times multiplied, of one ``kind`` or of all."""
    return tuple((k, op, shapes, module, us * factor if kind in ("", k) else us) for k, op, shapes, module, us in ops)


def renamed(digest: Digest, **columns: Any) -> Digest:
    """Return ``digest`` with columns of its groups replaced by functions of the old ones."""
    table = digest.groups
    return replace(digest, groups=table.assign(**{name: table[name].map(change) for name, change in columns.items()}))
