"""An eager and a compiled run of one made-up model, whose figures can be worked out on paper."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from analyzer.analysis import analyze, compare
from analyzer.schema.results import Study
from analyzer.schema.tables import SAMPLES, TIMINGS
from analyzer.trace.rundir import COMPILED_FILE, SAMPLES_FILE, TIMINGS_FILE, TRACE_FILE, write_facts, write_table
from tests.report import synthetic
from tests.report.synthetic import BATCH, UNIX_NS, Fake

ROWS, WIDTH, BLOCKS, STEPS = 64, 256, 2, 3
TENSOR, VECTOR = ROWS * WIDTH * 4, WIDTH * 4
X, ROW = [ROWS, WIDTH], [WIDTH]
WEIGHT = [WIDTH, WIDTH]

Op = tuple[str, str, list[list[int]], float]
"""Operator, module, input shapes, µs."""


def eager_ops() -> list[Op]:
    out: list[Op] = []
    for i in range(BLOCKS):
        block = f"blocks.{i}"
        out += [
            ("aten::addmm", f"{block}.fc", [ROW, X, WEIGHT], 100.0),
            ("aten::gelu", f"{block}.act", [X], 40.0),
            ("aten::add", block, [X, X], 20.0),
            ("aten::native_layer_norm", f"{block}.norm", [X, [], ROW, ROW], 30.0),
            ("aten::copy_", block, [X, X], 5.0),
        ]
    return out


def compiled_ops() -> list[Op]:
    out: list[Op] = []
    for i in range(BLOCKS):
        out += [
            ("aten::addmm", f"blocks.{i}.fc", [ROW, X, WEIGHT], 90.0),
            ("graph_0_cpp_fused_gelu_0", "", [], 45.0),
            ("graph_0_cpp_fused_add_native_layer_norm_1", "", [], 25.0),
            (f"graph_0_cpp_fused_zeros_{2 + i}", "", [], 2.0),
        ]
    return out


def tensor(shape: list[int], storage: int) -> dict[str, Any]:
    stride = [shape[1], 1] if len(shape) == 2 else [1]
    return {"shape": shape, "stride": stride, "dtype": "float32", "storage": storage, "offset": 0, "itemsize": 4}


def compiled_file() -> dict[str, Any]:
    """Return compiled.json: what the compiler made, in the order of the calls."""
    calls: list[dict[str, Any]] = []
    for i in range(BLOCKS):
        block, at = f"blocks.{i}", 100 * i
        x, y, z, out = (tensor(X, at + n) for n in range(4))
        scale, shift = tensor(ROW, at + 10), tensor(ROW, at + 11)
        linear = {"name": "aten::addmm", "inputs": [shift, x, tensor(WEIGHT, at + 12)], "outputs": [y], "module": f"{block}.fc"}
        gelu = {"name": "aten::gelu", "inputs": [y], "outputs": [z], "module": f"{block}.act"}
        add = {"name": "aten::add", "inputs": [z, x], "outputs": [y], "module": block}
        norm = {
            "name": "aten::native_layer_norm",
            "inputs": [y, {"value": [WIDTH]}, scale, shift, {"value": 1e-6}],
            "outputs": [out],
            "module": f"{block}.norm",
        }
        zeros = {"name": "aten::zeros", "inputs": [{"value": [ROWS, WIDTH]}], "outputs": [out], "module": "extra"}
        calls += [
            {"kernel": "aten::addmm", "fused": False, "parts": [linear], "reads": linear["inputs"], "writes": [y]},
            {"kernel": "cpp_fused_gelu_0", "fused": True, "parts": [gelu], "reads": [y], "writes": [z]},
            {
                "kernel": "cpp_fused_add_native_layer_norm_1",
                "fused": True,
                "parts": [add, norm],
                "reads": [z, x, scale, shift],
                "writes": [out],
            },
            {"kernel": f"cpp_fused_zeros_{2 + i}", "fused": True, "parts": [zeros], "reads": [], "writes": [out]},
        ]
    return {"format_version": 1, "torch": "2.13.0", "note": "", "graphs": [{"calls": calls}]}


@dataclass
class Made:
    """What to make up: the operators of one step, how long an untraced batch takes, and settings that differ."""

    ops: list[Op]
    compile: str
    latency_ms: float
    settings: dict[str, Any] = field(default_factory=dict)
    compiled: dict[str, Any] | None = None
    gap_us: float = 2.0
    device: str = "cpu"


def eager(**settings: Any) -> Made:
    return Made(eager_ops(), "off", 0.45, settings)


def compiled(**settings: Any) -> Made:
    return Made(compiled_ops(), "default", 0.36, settings, compiled_file())


def on_gpu(made: Made) -> Made:
    """Return the same run on a GPU: a kernel for each operator, generated ones under their Triton names."""
    renamed = [(op.replace("graph_0_cpp_fused_", "triton_poi_fused_"), *rest) for op, *rest in made.ops]
    text = json.dumps(made.compiled).replace("cpp_fused_", "triton_poi_fused_")
    return replace(made, ops=renamed, compiled=json.loads(text), device="cuda")


def write(root: Path, made: Made) -> Path:
    """Write the run directory and return it."""
    directory = root / f"model-{made.device}-{made.compile}"
    directory.mkdir(parents=True)
    with gzip.open(directory / TRACE_FILE, "wt") as file:
        json.dump(trace(made), file)
    if made.compiled is not None:
        with gzip.open(directory / COMPILED_FILE, "wt") as file:
            json.dump(made.compiled, file)
    fake = Fake(device=made.device, label="Model", latency_ms=made.latency_ms, steps=STEPS)
    write_table(directory / TIMINGS_FILE, synthetic._timings(fake), TIMINGS)
    write_table(directory / SAMPLES_FILE, synthetic._samples(fake), SAMPLES)
    facts = synthetic._facts(fake, directory.name)
    settings = structs.replace(facts.settings, compile=made.compile, dtype="float32", **made.settings)
    write_facts(directory, structs.replace(facts, settings=settings))
    return directory


def trace(made: Made) -> dict[str, Any]:
    """Return the trace: operators one after the other, eager ones in the scope of their module, compiled ones in a region."""
    events: list[dict[str, Any]] = []
    at = 1000.0
    for step in range(STEPS):
        begin = at
        at += 4.0
        for op, module, shapes, us in made.ops:
            args = {"Input Dims": shapes, "Input type": ["float"] * len(shapes)} if shapes else {}
            if made.compile == "off":
                events.append(synthetic._event("user_annotation", f"module::{module}", at - 0.5, us + 1.0, {}))
            length = us if made.device == "cpu" else 2.0
            events.append(synthetic._event("cpu_op", op, at, length, args))
            events += _kernel(op, at, us, len(events)) if made.device == "cuda" else []
            at += us + made.gap_us
        if made.compile != "off":
            events.append(synthetic._event("cpu_op", "Torch-Compiled Region: 0/0", begin + 1, at - begin - 1, {}))
        events.append(synthetic._event("user_annotation", f"ProfilerStep#{step + 1}", begin, at - begin + 1, {}))
        at += 20.0
    properties = [{"id": 0, "name": "NVIDIA H100 80GB HBM3", "computeMajor": 9, "computeMinor": 0, "numSms": 132}]
    return {
        "traceEvents": events,
        "deviceProperties": properties if made.device == "cuda" else [],
        "baseTimeNanoseconds": UNIX_NS,
    }


def _kernel(op: str, at: float, us: float, correlation: int) -> list[dict[str, Any]]:
    name = op if op.startswith("triton") else f"void {op.removeprefix('aten::')}_kernel<float>(int)"
    facts = {"device": 0, "stream": 7, "correlation": correlation, "grid": [64, 1, 1], "block": [128, 1, 1],
             "registers per thread": 32, "shared memory": 0}  # fmt: skip
    return [
        synthetic._event("cuda_runtime", "cudaLaunchKernel", at + 0.5, 1.0, {"correlation": correlation}),
        synthetic._event("kernel", name, at + 1.0, us, facts, tid=7),
    ]


def study(root: Path, *made: Made) -> Study:
    """Return the comparison of two runs, an eager and a compiled one unless told otherwise."""
    pair = made or (eager(), compiled())
    return compare(*(analyze(write(root / str(i), one)) for i, one in enumerate(pair)))


__all__ = ["BATCH", "BLOCKS", "STEPS", "TENSOR", "VECTOR", "Made", "compiled", "eager", "on_gpu", "study", "write"]
