"""One step of a model with counters on: ``python -m analyzer.capture.counted REQUEST.json``, started under ``ncu``.

The request holds ``choice``, ``settings``, ``path``, ``parent`` and ``born``. It builds the model as the traced pass had it,
warms up, and marks exactly one step for the profiler; ``path`` gets what came of it. Its stdin belongs to ncu, so it looks for
the process ``parent`` with that birth (``processes.birth``), and ends when that is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from analyzer.capture import processes
from analyzer.capture.latency import Clock, let_compile
from analyzer.capture.presets import resolve
from analyzer.capture.running import prepared
from analyzer.errors import AnalyzerError
from analyzer.schema.settings import CaptureSettings, ModelChoice

WARMUP_STEPS = 10
"""Steps before the counted one, the same number in every group: autotuning has chosen, and caches are as a step leaves them."""

_LOOK_EVERY_S = 0.5


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run the one step that is counted; return the number of steps before it."""
    choice = ModelChoice(**request["choice"])
    settings = resolve(CaptureSettings(**request["settings"]), choice.family)
    on_gpu = settings.device.type == "cuda"
    with prepared(choice, settings) as ready:
        if settings.compile != "off":
            let_compile(ready.step, Clock(settings.device))
        for _ in range(WARMUP_STEPS):
            ready.step()
        if not on_gpu:
            ready.step()
            return {"warmup": WARMUP_STEPS}
        torch.cuda.synchronize(settings.device)
        torch.cuda.profiler.start()
        ready.step()
        torch.cuda.synchronize(settings.device)
        torch.cuda.profiler.stop()
    return {"warmup": WARMUP_STEPS}


def main() -> None:
    """Run the process."""
    request = json.loads(Path(sys.argv[1]).read_bytes())
    threading.Thread(target=_end_with, args=(request["parent"], request["born"]), daemon=True).start()
    warnings.simplefilter("ignore")
    try:
        answer = run(request)
    except AnalyzerError as error:
        answer = {"error": error.message, "hint": error.hint}
    except Exception as error:  # noqa: BLE001  whatever it is, the analyzer has to learn of it: this output is ncu's
        answer = {"error": f"{type(error).__name__}: {error}"[:500], "hint": "run the model without counters=ncu and see"}
    path = Path(request["path"])
    part = path.with_suffix(".part")
    part.write_text(json.dumps(answer))
    part.replace(path)


def _end_with(parent: int, born: float) -> None:
    while processes.lives(parent, born):
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)


if __name__ == "__main__":
    main()
