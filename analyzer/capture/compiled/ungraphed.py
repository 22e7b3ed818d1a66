"""One step of compiled code without its CUDA graphs: a replay names no operators, the same code launched by itself does."""

from __future__ import annotations

from pathlib import Path

import torch

from analyzer.capture import latency, modes, profiler
from analyzer.capture.presets import Resolved
from analyzer.capture.running import Ready

# Never run on a GPU so far: tests drive it on a CPU, where nothing is put into CUDA graphs. Not tried on hardware is that both
# compilations choose the same kernels where torch.compile times several (compile=max-autotune keeps its choices on disk, and
# this process has just made them), and that the memory of the graphs is free again before the second one runs.


def trace_step(ready: Ready, settings: Resolved, path: Path) -> profiler.Written:
    """Compile the model of ``ready`` once more without CUDA graphs, run it warm, and write the trace of one step to ``path``.

    What was compiled before is forgotten, with the memory that its graphs hold: ``ready.step`` would compile again.
    """
    torch._dynamo.reset()
    if settings.device.type == "cuda":
        torch.cuda.empty_cache()
    step = ready.compiled_as(modes.without_graphs(settings))
    for _ in range(modes.SETTLING_CALLS):
        step()
    recorded = profiler.trace_steps(None, step, settings.device, 1, latency.Timings(), lambda: None)
    return profiler.write_trace(recorded, path)
