"""What it costs that the kernels torch.compile makes for a CPU open a record of the profiler, while no profiler runs.

A capture has every generated kernel do so, or a trace could not tell its time from that of the code around it
(``capture/modes.py``). Each process compiles the model both ways and times them in turns, so that both meet the same machine;
printed is the median of with over without per process, and the range of those medians.

    python -m benchmarks.compiled_profiling --model vit_tiny_patch16_224 --processes 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from analyzer.capture.torchvision_shim import ensure_torchvision


def _compiled(model: torch.nn.Module, batch: torch.Tensor, *, records: bool) -> Callable[[], object]:
    # as an option, not as a patch of the configuration: torch keeps code for each set of options, one beside the other
    call = torch.compile(model, dynamic=False, options={"cpp.enable_kernel_profile": records})
    call(batch)
    with torch.profiler.profile() as profiler:
        call(batch)
    if records != any("cpp_fused" in event.name for event in profiler.events()):
        raise RuntimeError("this torch does not do as asked")
    return lambda: call(batch)


def ratio(name: str, image_size: int, rounds: int, threads: int) -> float:
    """Return the median over ``rounds`` of the time of one call with records over that of one without."""
    ensure_torchvision()
    import timm

    torch.set_num_threads(threads)
    with torch.inference_mode():
        batch = torch.randn(1, 3, image_size, image_size)
        model = timm.create_model(name).eval().requires_grad_(False)
        both = [_compiled(model, batch, records=records) for records in (True, False)]
        found = []
        for turn in range(rounds):
            seconds = {}
            for side in (0, 1) if turn % 2 else (1, 0):
                start = time.perf_counter()
                both[side]()
                seconds[side] = time.perf_counter() - start
            found.append(seconds[0] / seconds[1])
    return statistics.median(found)


def main() -> None:
    """Measure in fresh processes and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--one", action="store_true", help="measure in this process and print the ratio as JSON")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(ratio(asked.model, asked.image_size, asked.rounds, asked.threads)))
        return
    command = [sys.executable, "-m", "benchmarks.compiled_profiling", "--one", *sys.argv[1:]]
    found = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(asked.processes)
    ]
    print(f"{asked.model}: with records {statistics.median(found):.4f} x as long ({min(found):.4f} to {max(found):.4f},")
    print(f"{asked.processes} processes of {asked.rounds} pairs each)")


if __name__ == "__main__":
    main()
