"""Small Kineto traces, written by hand, with every number known."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

H100 = {
    "id": 0, "name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85018279936, "computeMajor": 9, "computeMinor": 0,
    "numSms": 132, "warpSize": 32,
}  # fmt: skip


def op(
    name: str,
    ts: float,
    dur: float,
    *,
    dims: Any = None,
    types: Any = None,
    concrete: Any = None,
    tid: Any = 1,
    ext: int = 0,
) -> dict[str, Any]:
    args: dict[str, Any] = {"External id": ext}
    if dims is not None:
        args |= {"Input Dims": dims, "Input type": types or ["float"] * len(dims)}
        args["Concrete Inputs"] = concrete or [""] * len(dims)
    return {"ph": "X", "cat": "cpu_op", "name": name, "pid": 1, "tid": tid, "ts": ts, "dur": dur, "args": args}


def launch(
    ts: float, correlation: int, *, tid: Any = 1, name: str = "cudaLaunchKernel", cat: str = "cuda_runtime"
) -> dict[str, Any]:
    args = {"correlation": correlation}
    return {"ph": "X", "cat": cat, "name": name, "pid": 1, "tid": tid, "ts": ts, "dur": 2, "args": args}


def kernel(name: str, ts: float, dur: float, correlation: int, *, stream: int = 7, ext: int = 0, **args: Any) -> dict[str, Any]:
    known = {
        "device": 0, "stream": stream, "correlation": correlation, "External id": ext, "registers per thread": 32,
        "shared memory": 0, "grid": [132, 1, 1], "block": [256, 1, 1], "est. achieved occupancy %": 12,
    }  # fmt: skip
    return {
        "ph": "X",
        "cat": "kernel",
        "name": name,
        "pid": 0,
        "tid": stream,
        "ts": ts,
        "dur": dur,
        "args": known | args,
    }


def note(name: str, ts: float, dur: float, tid: Any = 1) -> dict[str, Any]:
    return {"ph": "X", "cat": "user_annotation", "name": name, "pid": 1, "tid": tid, "ts": ts, "dur": dur, "args": {}}


def document(events: list[dict[str, Any]], *, gpu: bool = True, **top: Any) -> dict[str, Any]:
    devices = [H100] if gpu else []
    return {
        "schemaVersion": 1,
        "deviceProperties": devices,
        "baseTimeNanoseconds": 10**18,
        "traceEvents": events,
        **top,
    }


def write(path: Path, content: Any) -> Path:
    data = json.dumps(content).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def gpu_step() -> list[dict[str, Any]]:
    """One step of 1000 us: a linear layer (addmm, 1 GEMM), a softmax, a copy; 300 us of kernels, 700 us without."""
    linear = [[128, 64], [64, 32]]
    return [
        note("ProfilerStep#3", 0, 1000),
        note("module::head", 10, 200),
        op("aten::linear", 20, 100, dims=[[128, 64], [32, 64], [32]], types=["c10::Half"] * 3, ext=1),
        op("aten::addmm", 30, 50, dims=[[32], *linear], types=["c10::Half"] * 3, ext=2),
        launch(40, 11),
        op("aten::_softmax", 300, 40, dims=[[128, 32], [], []], types=["c10::Half", "Scalar", "Scalar"], ext=3),
        launch(310, 12),
        launch(400, 13, name="cudaMemcpyAsync"),
        kernel("sm90_xmma_gemm_f16f16_tilesize128x128x64", 100, 150, 11, ext=2, **{"shared memory": 98304}),
        kernel("softmax_warp_forward<c10::Half>", 350, 100, 12, ext=3),
        {
            "ph": "X", "cat": "gpu_memcpy", "name": "Memcpy DtoH (Device -> Pageable)", "pid": 0, "tid": 7, "ts": 500,
            "dur": 50, "args": {"device": 0, "stream": 7, "correlation": 13, "bytes": 8192},
        },
    ]  # fmt: skip


def cpu_step() -> list[dict[str, Any]]:
    """One step of 1000 us on a CPU: linear -> addmm (200 us, of which 30 us a bias copy), gelu 100 us."""
    return [
        note("ProfilerStep#1", 0, 1000),
        note("module::mlp.fc1", 90, 300),
        op("aten::linear", 100, 220, dims=[[16, 64], [32, 64], [32]]),
        op("aten::addmm", 110, 200, dims=[[32], [16, 64], [64, 32]]),
        op("aten::copy_", 120, 30, dims=[[16, 32], [16, 32]]),
        op("aten::gelu", 400, 100, dims=[[16, 32], []], types=["float", ""], concrete=["", "none"]),
    ]
