"""Measures what the access model costs: a whole analysis of two models known by their shapes, and its parts.

Records the layers of each model without running it, then times the analysis in a fresh process with nothing compiled (cold), in
a second one with what the first compiled (warm), and kernel by kernel. Prints what it finds; no time is a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.machine import ask_versions, describe_machine
from benchmarks.process import Execution, execute

if TYPE_CHECKING:
    from analyzer.access.kernel import Launch
    from analyzer.access.result import Subject
    from analyzer.access.units import Unit
    from analyzer.schema.access import CacheFacts

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("vit_base_patch16_224", "convnext_base")
IMAGES, IMAGE_SIZE, DTYPE = 32, 224, "float16"
DEVICE, PEAK_TFLOPS = "h100_sxm5_80gb", 989.4
DISTRIBUTIONS = ("numba", "numpy")
MOST_LISTED = 3


def record(model: str) -> list[dict[str, Any]]:
    """Return the operators of one forward pass, each with the module that ran it."""
    from analyzer.capture.meta import record_ops
    from analyzer.schema.settings import ModelChoice

    return record_ops(ModelChoice("", model, model), IMAGES, IMAGE_SIZE, DTYPE)


def subject_and_units(model: str, records: Sequence[dict[str, Any]]) -> tuple[Subject, list[Unit]]:
    """Return what the access model looks at: the layers on an H100, beside the GPUs that reports compare."""
    from analyzer.access.result import Subject
    from analyzer.access.subject import COMPARED, caches
    from analyzer.access.units import units_of
    from analyzer.trace.calls import calls_of

    calls = calls_of(list(records))
    units, _ = units_of([(call, row.get("module", "")) for call, row in zip(calls, records, strict=True)], IMAGES)
    (own,) = caches((DEVICE,))
    return Subject(model, IMAGES, IMAGE_SIZE, (own,), caches(COMPARED), own.multiprocessors), units


def _rate(_device: CacheFacts, _unit: Unit) -> float:
    return PEAK_TFLOPS


def analyse(model: str, records: Sequence[dict[str, Any]], *, parts: bool) -> dict[str, Any]:
    """Return the time of the whole analysis and, with ``parts``, of each distinct kernel and of the loops."""
    began = time.perf_counter()
    from analyzer.access.result import build, merged

    imported = time.perf_counter()
    subject, units = subject_and_units(model, records)
    result = build(subject, units, units, _rate)
    done = time.perf_counter()
    launches = list(dict.fromkeys(unit.launch for unit in merged(units)))
    answer: dict[str, Any] = {
        "import_s": imported - began, "analysis_s": done - imported, "units": len(units), "kernels": len(launches),
        "patterns": len(result.patterns), "sizes": len(result.sizes),
    }  # fmt: skip
    return answer | (_parts(subject, launches) if parts else {})


def _parts(subject: Subject, launches: Sequence[Launch]) -> dict[str, Any]:
    from analyzer.access.kernel import kernel_access
    from analyzer.access.problem import Pass

    kernel_access.cache_clear()
    each = []
    for launch in launches:
        took, _ = _timed(kernel_access, launch, subject.devices, subject.multiprocessors)
        each.append((took, str(launch.problem)))
    walked = [launch for launch in launches if not isinstance(launch.problem, Pass)]
    return {"kernel_s": sorted(each, reverse=True), "walked": len(walked), "loops": _loops(subject, walked)}


def _loops(subject: Subject, launches: Sequence[Launch]) -> dict[str, tuple[int, float]]:
    """Return accesses and seconds of each loop over the launches in the first of their orders."""
    from analyzer.access.caches import simulated
    from analyzer.access.l2 import run
    from analyzer.access.reuse import reuse_of
    from analyzer.access.streams.build import fill, plan_of
    from analyzer.access.streams.order import TooLargeError

    found: dict[str, tuple[int, float]] = {}
    cache = simulated(subject.devices[0])
    for launch in launches:
        slots = max(launch.resident, 1) * subject.multiprocessors
        plan = plan_of(launch.problem, launch.geometry, launch.geometry.rasters[0], slots)  # type: ignore[arg-type]
        try:
            took, stream = _timed(fill, plan)
        except TooLargeError:
            continue
        parts = {
            "streams (order, turns, accesses)": took,
            "stack distances and curve": _timed(reuse_of, stream)[0],
            "cache, LRU": _timed(run, stream, cache, "lru")[0],
            "cache, NRU": _timed(run, stream, cache, "nru")[0],
        }
        for name, seconds in parts.items():
            count, total = found.get(name, (0, 0.0))
            found[name] = (count + len(stream.granule), total + seconds)
    return found


def _timed(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work(*arguments)
    return time.perf_counter() - began, found


def worker(model: str, records: Path, *, parts: bool) -> None:
    """Run as a process of its own: analyse recorded layers and print the answer as one line of JSON."""
    print(json.dumps(analyse(model, json.loads(records.read_text(encoding="utf-8")), parts=parts)))


def measure(model: str, folder: Path) -> tuple[Execution, Execution, Execution]:
    """Return the analysis of ``model`` cold, warm, and warm with its parts timed one by one."""
    records = folder / f"{model}.json"
    records.write_text(json.dumps(record(model)), encoding="utf-8")
    compiled = folder / f"compiled-{model}"
    compiled.mkdir()
    env = {**os.environ, "NUMBA_CACHE_DIR": str(compiled)}
    command = [sys.executable, "-m", "benchmarks.access_cost", "--worker", model, "--records", str(records)]
    cold, warm = (execute(command, env, str(ROOT)) for _ in range(2))
    return cold, warm, execute([*command, "--parts"], env, str(ROOT))


def lines(model: str, executions: Sequence[Execution]) -> list[str]:
    """Return what was measured as lines of text."""
    failed = [execution.failure for execution in executions if execution.failure]
    if failed:
        return [f"{model}: {failed[0]}"]
    cold, warm, parts = executions
    answer = parts.answer
    out = [
        f"{model}, {IMAGES} images of {IMAGE_SIZE} px, {DTYPE}, on {DEVICE}: {answer['units']} kernels a pass, "
        f"{answer['kernels']} distinct, {answer['walked']} of them written down access by access; "
        f"{answer['sizes']} points over image sizes",
    ]
    for name, one in (("cold", cold), ("warm", warm)):
        out.append(
            f"  {name}: process {one.wall_s:6.2f} s, of which imports {one.answer['import_s']:5.2f} s, "
            f"analysis {one.answer['analysis_s']:6.2f} s; peak {one.peak_bytes / 1e6:,.0f} MB"
        )
    each = [seconds for seconds, _ in answer["kernel_s"]]
    out.append(
        f"  a distinct kernel: median {1e3 * median(each):.1f} ms, longest {1e3 * each[0]:.0f} ms, all {sum(each):.2f} s"
    )
    out += [f"    {1e3 * seconds:6.0f} ms  {what}" for seconds, what in answer["kernel_s"][:MOST_LISTED]]
    for name, (count, seconds) in answer["loops"].items():
        out.append(f"  {name:34} {count / 1e6:7.2f} M accesses, {seconds:5.2f} s: {count / seconds / 1e6:6.1f} M/s")
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.access_cost", description=__doc__)
    parser.add_argument("--models", nargs="*", default=list(MODELS), help="names of timm")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--records", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--parts", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        worker(options.worker, options.records, parts=options.parts)
        return
    print(json.dumps(describe_machine() | ask_versions(sys.executable, DISTRIBUTIONS)))
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            print("\n".join(lines(model, measure(model, Path(folder)))), flush=True)


if __name__ == "__main__":
    main()
