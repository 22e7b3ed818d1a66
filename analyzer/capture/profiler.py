"""The traced steps: torch.profiler with shapes, memory and module scopes, written without anything that names a host."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, schedule

from analyzer.capture.latency import Clock, Step, Timings
from analyzer.capture.scopes import module_scopes
from analyzer.trace.frames import frames_of, trim

_STACK = "Call stack"
"""Argument of an operator that TorchScript ran, where stacks are recorded."""

_GRAPH_LAUNCHES = ("cudaGraphLaunch", "cuGraphLaunch", "hipGraphLaunch")
_RUNTIME = ("cuda_runtime", "cuda_driver")
_KEPT = (  # of the top level; everything else may name a host, a user or a path
    "schemaVersion",
    "deviceProperties",
    "cupti_version",
    "cuda_runtime_version",
    "cuda_driver_version",
    "hip_runtime_version",
    "hip_driver_version",
    "trace_id",
    "displayTimeUnit",
    "baseTimeNanoseconds",
    "record_shapes",
    "with_stack",
    "with_modules",
    "with_flops",
    "profile_memory",
    "traceEvents",
)


@dataclass(frozen=True, slots=True)
class Written:
    """What stands in a trace that was written: the number of its events, the names of its operators and of its kernels.

    ``graphs``: whether CUDA graphs were launched; None where no call of the runtime was recorded that would tell.
    """

    events: int
    operators: frozenset[str]
    graphs: bool | None
    kernels: frozenset[str] = frozenset()


def trace_steps(
    model: nn.Module | None,
    step: Step,
    device: torch.device,
    steps: int,
    timings: Timings,
    advance: Callable[[], None],
    *,
    stacks: bool = False,
) -> profile:
    """Run one step to warm the profiler and ``steps`` active ones, each synchronised before it ends.

    ``model`` gets scopes for its modules; None leaves them out, as for compiled code, which has no modules any more.
    ``stacks``: the Python stack is recorded as well, which slows the host.

    The times that go to ``timings`` (pass ``traced``) are those of the steps in the trace: profiler and scopes on.
    """
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    plan = schedule(wait=0, warmup=1, active=steps, repeat=1)
    clock = Clock(device)

    def synchronised() -> None:
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    # what the allocators do costs less than what the clock of a step varies by, and gives the page its memory curve
    with (
        module_scopes(model) if model is not None else nullcontext(),
        profile(activities=activities, schedule=plan, record_shapes=True, profile_memory=True, with_stack=stacks) as profiler,
    ):
        for number in range(-1, steps):
            start, latency = clock.time(synchronised)
            profiler.step()
            if number >= 0:
                timings.add("traced", number, start, latency)
                advance()
    return profiler


def write_trace(profiler: profile, path: Path) -> Written:
    """Write the trace, gzipped, to ``path``; return what stands in it."""
    raw = path.with_name("trace.raw.json")  # beside it: the directory is removed whole if we are interrupted
    try:
        profiler.export_chrome_trace(str(raw))
        trace = strip(msgspec.json.decode(raw.read_bytes()))
    finally:
        raw.unlink(missing_ok=True)
    path.write_bytes(gzip.compress(msgspec.json.encode(trace), compresslevel=6, mtime=0))
    events = trace["traceEvents"]
    operators = frozenset(str(event["name"]) for event in events if event.get("cat") == "cpu_op")
    calls = {str(event["name"]) for event in events if event.get("cat") in _RUNTIME}
    graphs = any(name.startswith(_GRAPH_LAUNCHES) for name in calls) if calls else None
    kernels = frozenset(str(event["name"]) for event in events if event.get("cat") == "kernel")
    return Written(len(events), operators, graphs, kernels)


def strip(trace: dict[str, Any]) -> dict[str, Any]:
    """Return ``trace`` with only the top-level keys that describe the recording and the hardware, paths trimmed."""
    kept = {key: trace[key] for key in _KEPT if key in trace}
    for event in kept.get("traceEvents", ()):
        if event.get("cat") == "python_function":
            event["name"] = trim(str(event["name"]))
        args = event.get("args")
        if isinstance(args, dict):
            _trim_paths(args)
    return kept


def _trim_paths(args: dict[str, Any]) -> None:
    """Trim the call stack, and paths: Inductor names the file of a kernel, in a folder that is named after the user."""
    if _STACK in args:
        args[_STACK] = ";".join(frames_of(str(args[_STACK])))
    for key, value in args.items():
        if isinstance(value, str) and value.startswith("/"):
            args[key] = trim(value)
