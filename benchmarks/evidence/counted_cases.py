"""The program that is counted: ``python -m benchmarks.evidence.counted_cases REQUEST.json``, started under ``ncu``.

Of each case it launches the kernels once before, brings the caches into their state, and marks exactly the case's launches.
``path`` of the request gets the cases in the order in which they were launched, and why the last ones are missing (``failed``);
``sizes`` (bytes of the cache, free bytes) take the place of those of the device.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.evidence.calibration import described, failed, place_of
from benchmarks.evidence.cases import Case, Place, all_cases


def run(place: Place) -> tuple[list[dict[str, Any]], str]:
    """Launch every case; return them with the names of their launches, and why the last ones are missing, mostly empty."""
    done: list[dict[str, Any]] = []
    try:
        for case in all_cases(place):
            _launch(case, place.device)
            done.append({**described(case), "launches": list(case.launches)})
    except Exception as error:  # noqa: BLE001  what was counted before stands in the report of ncu
        return done, failed(error)
    return done, ""


def _launch(case: Case, device: torch.device) -> None:
    for launch in case.counted:
        launch()
    case.before()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.profiler.start()
    for launch in case.counted:
        launch()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.profiler.stop()


def main() -> None:
    """Run the process."""
    request = json.loads(Path(sys.argv[1]).read_bytes())
    device, sizes = torch.device(request["device"]), request.get("sizes")
    cases, why = run(Place(device, *sizes) if sizes else place_of(device))
    answer = {"cases": cases, "failed": why}
    path = Path(request["path"])
    part = path.with_suffix(".part")
    part.write_text(json.dumps(answer), encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    main()
