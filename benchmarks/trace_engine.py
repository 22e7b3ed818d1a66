"""Measures the trace engine against its peers and against a floor, and writes the page of results."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.machine import PEER_DISTRIBUTIONS, ask_versions, describe_checkout, describe_machine, own_versions
from benchmarks.page import note_measurement, render_page, wall_s
from benchmarks.process import Execution, execute
from benchmarks.replicate import write_replica
from benchmarks.results import Measurement, Results, Size, read_results, strip_folders, write_results

ROOT = Path(__file__).resolve().parents[1]
LARGE_BYTES = 500_000_000


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trace_engine", description=__doc__)
    parser.add_argument("--trace", type=Path, required=True, help="a Kineto trace, .json.gz or .json")
    parser.add_argument("--copies", type=int, nargs="*", default=[1, 6, 92], help="sizes, as copies of the trace")
    parser.add_argument("--reports", type=int, nargs="*", default=[11], help="sizes at which whole reports are made")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--runs-large", type=int, default=1, help=f"runs from {LARGE_BYTES // 10**6} MB before compression on")
    parser.add_argument("--peers", default="", help="Python of the environment that holds benchmarks/peers.txt")
    parser.add_argument("--tracelens", type=Path, help="a checkout of TraceLens")
    parser.add_argument("--tracelens-python", default="", help="Python with what TraceLens needs; the peers' unless given")
    parser.add_argument("--only", default="", help="names of contenders, comma-separated; other results stay as they are")
    parser.add_argument("--workdir", type=Path, help="where long traces are written and kept; a temporary folder unless given")
    parser.add_argument("--out", type=Path, default=Path("docs/performance.md"), help="the page; results go beside it as JSON")
    parser.add_argument("--cap-gb", type=float, default=18.0, help="memory at which a contender is killed")
    parser.add_argument("--timeout-s", type=float, default=900.0)
    options = parser.parse_args(arguments)
    unknown = set(filter(None, options.only.split(","))) - {contender.name for contender in CONTENDERS}
    if unknown:
        parser.error(f"no such contender: {', '.join(sorted(unknown))}; there are {', '.join(c.name for c in CONTENDERS)}")
    return options


def sum_kernels(path: Path) -> tuple[int, float]:
    """Return the number of kernels in a trace and their total time in µs, with the standard library alone."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        document = json.load(file)
    events = document["traceEvents"] if isinstance(document, dict) else document
    durations_us = [event["dur"] for event in events if event.get("ph") == "X" and event.get("cat") in {"kernel", "Kernel"}]
    return len(durations_us), sum(round(duration_us * 1000) for duration_us in durations_us) / 1000


def make_traces(trace: Path, copies: Sequence[int], folder: Path, results: Results) -> dict[int, Path]:
    """Write the traces that are not in ``folder`` yet; note every size in ``results``."""
    folder.mkdir(parents=True, exist_ok=True)
    kernels, kernel_us = sum_kernels(trace)
    paths = {}
    for number in copies:
        path = folder / f"{trace.name.split('.', 1)[0]}-x{number}.json.gz"
        if not path.exists() or number not in results.sizes:
            replica = write_replica(trace, number, path)
            sums = number * kernels, number * kernel_us
            results.sizes[number] = Size(number, replica.events, replica.raw_bytes, path.stat().st_size, *sums)
        paths[number] = path
    return paths


class Stage:
    """The contenders that can run here: their interpreters, and why others cannot."""

    def __init__(self, options: argparse.Namespace) -> None:
        only = set(filter(None, options.only.split(",")))
        self._options = options
        self.versions = {"this analyzer": own_versions()}
        if options.peers:
            self.versions["peers"] = ask_versions(options.peers, PEER_DISTRIBUTIONS)
        if options.tracelens:
            interpreter = options.tracelens_python or options.peers
            versions = ask_versions(interpreter, ("pandas", "orjson"))
            self.versions["TraceLens"] = {"commit": describe_checkout(options.tracelens)} | versions
        wanted = [contender for contender in CONTENDERS if not only or contender.name in only]
        self.absent = {contender.name: reason for contender in wanted if (reason := self._explain_absence(contender))}
        self.contenders = [contender for contender in wanted if contender.name not in self.absent]

    def _explain_absence(self, contender: Contender) -> str:
        if contender.home == "tracelens":
            if not self._options.tracelens:
                return "no checkout was given"
            return "" if "Python" in self.versions["TraceLens"] else "no Python to run it was given"
        if contender.home == "peers" and contender.distribution not in self.versions.get("peers", {}):
            return "it is not installed in the peers' environment" if self._options.peers else "no peers' environment was given"
        return ""

    def perform(self, contender: Contender, trace: Path) -> Execution:
        """Run ``contender`` once on ``trace``."""
        options = self._options
        interpreter = {"own": sys.executable, "peers": options.peers, "tracelens": options.tracelens_python or options.peers}
        folder = {"own": str(ROOT), "peers": "", "tracelens": str(options.tracelens)}[contender.home]
        environment = {**os.environ, "PYTHONPATH": folder}
        command = [interpreter[contender.home], str(contender.path), str(trace)]
        return execute(command, env=environment, cap_bytes=int(options.cap_gb * 1e9), timeout_s=options.timeout_s)


def measure(stage: Stage, contenders: Sequence[Contender], trace: Path, size: Size, runs: int) -> list[Measurement]:
    """Return what ``contenders`` took on ``trace``, run in turn; one that fails is not run again."""
    _fill_page_cache(trace)
    executions: dict[str, list[Execution]] = {contender.name: [] for contender in contenders}
    for number in range(runs):
        for contender in contenders:
            done = executions[contender.name]
            if done and done[-1].failure:
                continue
            done.append(stage.perform(contender, trace))
            last = done[-1]
            state = strip_folders(last.failure) or "ok"
            took = f"{last.wall_s:8.3f} s {last.peak_bytes / 1e6:8,.0f} MB"
            print(f"x{size.copies:<3} {number + 1}/{runs} {contender.name:16} {took}  {state}", file=sys.stderr, flush=True)
    return [Measurement(name, size.copies, tuple(done)) for name, done in executions.items()]


def _fill_page_cache(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass


def run_stage(options: argparse.Namespace, folder: Path, results: Results, kept: Path) -> None:
    """Measure all sizes and keep the results after each."""
    stage = Stage(options)
    results.source = options.trace.name
    results.machine = describe_machine()
    results.versions |= stage.versions
    results.absent = {
        name: why for name, why in {**results.absent, **stage.absent}.items() if name not in _names(stage.contenders)
    }
    paths = make_traces(options.trace, sorted({*options.copies, *options.reports}), folder, results)
    for report, copies in [(False, number) for number in options.copies] + [(True, number) for number in options.reports]:
        contenders = [contender for contender in stage.contenders if contender.report == report]
        size = results.sizes[copies]
        for contender in contenders:
            stage.perform(contender, options.trace)
        for measurement in measure(stage, contenders, paths[copies], size, _count_runs(options, size)):
            results.add(measurement)
        write_results(results, kept)


def _names(contenders: Sequence[Contender]) -> set[str]:
    return {contender.name for contender in contenders}


def _count_runs(options: argparse.Namespace, size: Size) -> int:
    return int(options.runs_large if size.raw_bytes >= LARGE_BYTES else options.runs)


def print_summary(results: Results) -> None:
    """Print the medians and what must be said of them."""
    by_name = {contender.name: contender for contender in CONTENDERS}
    for (name, copies), measurement in sorted(results.measurements.items(), key=lambda item: item[0][::-1]):
        spread = wall_s(results, name, copies)
        print(f"x{copies:<3} {name:16}", f"{spread.median:8.3f} s" if spread else "  failed", end="")
        print("".join(f"  [{note}]" for note in note_measurement(results, by_name[name], measurement)))


def main() -> None:
    """Run the command line."""
    options = parse_options()
    kept = options.out.with_suffix(".json")
    results = read_results(kept)
    if results.source not in {"", options.trace.name}:
        sys.exit(f"{kept.name} holds results of another trace ({results.source}); give another --out")
    if options.workdir:
        run_stage(options, options.workdir, results, kept)
    else:
        with tempfile.TemporaryDirectory() as folder:
            run_stage(options, Path(folder), results, kept)
    options.out.write_text(render_page(results), encoding="utf-8")
    print_summary(results)


if __name__ == "__main__":
    main()
