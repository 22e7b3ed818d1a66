"""The pass that GPM needs: the model over and over for seconds, without a gap between two batches."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import torch

from analyzer.capture.latency import Step
from analyzer.capture.nvml import gpm_failure

LOOP_S = 3.0
"""GPM averages over 100 ms and more; so many seconds give some two dozen averages."""

QUEUED = 8
"""Batches that may wait on the device: the host stays ahead, so the device never waits for it to wake up, and the queue stays
short."""

_MIN_SAMPLES = 5

NOT_ASKED = "counters=none, as in a sweep without counters=ncu"
SILENT = "NVML did not answer"
_PATIENCE_S = 5.0
ON_CPU = "the model runs on the CPU"


def refusal(device: torch.device, uuid: str | None, counters: str) -> str:
    """Return why the model is not looped for GPM, empty where it is. On a CUDA device this takes one reading, 0.1 s."""
    if device.type != "cuda":
        return ON_CPU
    return NOT_ASKED if counters == "none" else _asked(uuid)


def _asked(uuid: str | None) -> str:
    """Return what ``gpm_failure`` says, or that it does not come back: a driver that hangs must not hang the run."""
    said: list[str] = []
    asking = threading.Thread(target=lambda: said.append(gpm_failure(uuid)), daemon=True)
    asking.start()
    asking.join(_PATIENCE_S)
    return said[0] if said else f"{SILENT} within {_PATIENCE_S:g} s"


def loop(step: Step, device: torch.device, sample_period_s: float) -> int:
    """Run ``step`` over and over for LOOP_S, or five periods of the sampler; return how often. Waits for the device at the end.

    On a GPU it waits for the batch QUEUED before the present one, never for the last: nothing grows, and no gap opens.
    """
    on_gpu = device.type == "cuda"
    waiting: deque[Any] = deque()
    steps = 0
    ends = time.monotonic() + max(LOOP_S, _MIN_SAMPLES * sample_period_s)
    while steps == 0 or time.monotonic() < ends:
        step()
        steps += 1
        if on_gpu:
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(device))
            waiting.append(done)
            if len(waiting) > QUEUED:
                waiting.popleft().synchronize()
    if on_gpu:
        torch.cuda.synchronize(device)
    return steps
