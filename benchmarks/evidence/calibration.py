"""Times the kernels of the calibration: ``python -m benchmarks.evidence.calibration out=evidence device=auto``.

Times are those of CUDA events around one launch (of a clock on a CPU), a stand-in for bytes: a set that no longer fits into L2
is read more slowly. The bytes themselves come from ``counted_calibration``, where ncu can be read.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.evidence.cases import Case, Place, all_cases
from benchmarks.evidence.record import write_result
from benchmarks.evidence.words import WordError, read_words

WORDS = {"out": "evidence", "device": "auto", "times": "7"}
_CPU_CACHE_BYTES = 8 << 20
"""Most that a CPU's cache is taken for: the point there is that the path is tried, in seconds."""


def place_of(device: torch.device) -> Place:
    """Return the device with its last-level cache and free memory."""
    from analyzer.capture.environment import device_facts

    facts = device_facts(device)
    if device.type == "cuda":
        return Place(device, facts.l2_bytes or 50 << 20, torch.cuda.mem_get_info(device)[0])
    return Place(
        device, min(facts.l3_bytes or facts.l2_bytes or _CPU_CACHE_BYTES, _CPU_CACHE_BYTES), psutil.virtual_memory().available
    )


def timed(case: Case, device: torch.device, times: int) -> dict[str, Any]:
    """Return the row of one case: what it asks for, and of each launch the median, least and most of ``times`` times in µs."""
    from analyzer.capture.latency import Clock

    clock = Clock(device)
    for launch in case.counted:
        launch()
    taken: list[list[float]] = [[] for _ in case.counted]
    for _ in range(times):
        case.before()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        for number, launch in enumerate(case.counted):
            taken[number].append(1e3 * clock.time(launch)[1])
    return {
        **described(case),
        "kernels": [
            {"launch": name, "median_us": statistics.median(us), "low_us": min(us), "high_us": max(us), "n": len(us)}
            for name, us in zip(case.launches, taken, strict=True)
        ],
    }


def all_timed(place: Place, times: int) -> tuple[list[dict[str, Any]], str]:
    """Return the rows of every case, and why the last ones are missing, empty where none is."""
    rows: list[dict[str, Any]] = []
    try:
        for case in all_cases(place):
            rows.append(timed(case, place.device, times))
            print(f"{case.experiment} {case.name}: {rows[-1]['kernels'][0]['median_us']:.1f} us")
    except Exception as error:  # noqa: BLE001  a compiler or an allocator that fails at one case must not cost the others
        return rows, failed(error)
    return rows, ""


def failed(error: Exception) -> str:
    """Return the kind of an error and the first line of what it says, without paths."""
    from analyzer.capture.privacy import masked_text

    said = masked_text(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:200]}" if said else type(error).__name__


def described(case: Case) -> dict[str, Any]:
    """Return what is known of a case without running it."""
    return {
        "experiment": case.experiment, "name": case.name, "set_bytes": case.set_bytes, "read_bytes": case.read_bytes,
        "written_bytes": case.written_bytes, "flop": case.flop,
    }  # fmt: skip


def main(given: list[str]) -> int:
    """Time every case and write ``results/calibration.json``."""
    from analyzer.capture.environment import resolve_device
    from analyzer.errors import AnalyzerError

    try:
        values = read_words(given, WORDS)
        device = resolve_device(values["device"])
    except (WordError, AnalyzerError) as error:
        print(f"error: {error}")
        return 1
    place = place_of(device)
    rows, why = all_timed(place, int(values["times"]))
    if not rows:
        print(f"error: {why}")
        return 1
    experiments = {row["experiment"] for row in rows}
    absent = {} if "raster" in experiments else {"raster": why or _no_rasters(device)}
    absent |= {f"what follows {rows[-1]['experiment']} {rows[-1]['name']}": why} if why else {}
    content = {"cache_bytes": place.cache_bytes, "clock": _clock(device), "cases": rows, "absent": absent}
    write_result("calibration", values["device"], content, Path(values["out"]).absolute())
    return 0


def _clock(device: torch.device) -> str:
    return "CUDA events around one launch" if device.type == "cuda" else "time.perf_counter_ns around one call"


def _no_rasters(device: torch.device) -> str:
    if device.type != "cuda":
        return "Triton kernels need a GPU"
    return "Triton is not installed, or too little memory is free"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
