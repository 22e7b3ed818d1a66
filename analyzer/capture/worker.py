"""One repeat in a fresh process: ``python -m analyzer.capture.worker`` measures warm-up and untraced latency again.

It reads one JSON line from stdin (choice, settings, repeat, path) and writes its rows, or the error, to the file
``path``. It ends when stdin closes: then its parent is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

from analyzer.capture.latency import Clock, Timings, let_compile, measure, settle
from analyzer.capture.presets import resolve
from analyzer.capture.running import prepared
from analyzer.errors import AnalyzerError
from analyzer.schema.settings import CaptureSettings, ModelChoice


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Measure as ``request`` says; return the rows and how the warm-up ended."""
    choice = ModelChoice(**request["choice"])
    settings = resolve(CaptureSettings(**request["settings"]), choice.family)
    timings = Timings(repeat=int(request["repeat"]))
    with prepared(choice, settings) as ready:
        clock = Clock(settings.device)
        if settings.compile != "off":
            let_compile(ready.step, clock)
        warmup = settle(ready.step, clock, settings, timings)
        measure(ready.step, clock, settings, timings, lambda: None)
    return {"rows": timings.rows, "steady": warmup.steady, "note": "" if warmup.steady else warmup.note}


def main() -> None:
    """Run the process."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.simplefilter("ignore")
    try:
        answer = run(request)
    except AnalyzerError as error:
        answer = {"error": error.message, "hint": error.hint, "type": type(error).__name__}
    Path(request["path"]).write_text(json.dumps(answer))


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
