"""Counts DRAM and L2 bytes of the calibration's kernels under Nsight Compute, one process for each group of counters.

``python -m benchmarks.evidence.counted_calibration out=evidence device=cuda``. Tool, groups, options and limits are those of
``analyzer.capture.ncu``; the counted program is ``counted_cases``. None of this has run on a GPU.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence.record import EXIT_BLOCKED, write_result
from benchmarks.evidence.words import WordError, read_words

WORDS = {"out": "evidence", "device": "auto"}
PROGRAM = "benchmarks.evidence.counted_cases"
LIMIT_S = 150.0
_OF_MEMORY = ("dram__", "lts__", "l1tex__m_xbar")


def counting_line(line: Sequence[str]) -> list[str]:
    """Return the analyzer's command line for counting with the calibration as its program.

    Raises:
        ValueError: the line does not end in ``-m PROGRAM REQUEST``.
    """
    if len(line) < 3 or line[-3] != "-m":
        raise ValueError("the command line of the counter pass has another form")
    return [*line[:-2], PROGRAM, line[-1]]


def memory_groups(groups: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Return the groups that count bytes or sectors of DRAM and L2."""
    return [tuple(group) for group in groups if any(name.startswith(_OF_MEMORY) for name in group)]


def joined(cases: Sequence[dict[str, Any]], rows: Sequence[dict[str, float | None]]) -> tuple[list[dict[str, Any]], str]:
    """Return the cases with the counters of their launches, and why that could not be; rows are in the order of launches."""
    launches = sum(len(case["launches"]) for case in cases)
    if launches != len(rows):
        return [dict(case) for case in cases], f"{len(rows)} launches were counted, {launches} are listed: none is matched"
    left = iter(rows)
    return [{**case, "kernels": [{"launch": name, **next(left)} for name in case["launches"]]} for case in cases], ""


def count_group(
    tool: Any, group: tuple[str, ...], device: str, scratch: Path, number: int, sizes: Sequence[int] = ()
) -> dict[str, Any]:
    """Return the cases with the counters of one group, or why there are none; ``sizes`` as in ``counted_cases``."""
    from analyzer.capture.ncu import command, page, supervise
    from analyzer.errors import AnalyzerError

    report, request, answer, log, csv = (
        scratch / f"group-{number}{ending}" for ending in (command.REPORT_SUFFIX, ".json", ".answer.json", ".log", ".csv")
    )
    request.write_text(json.dumps({"device": device, "path": str(answer), "sizes": list(sizes)}), encoding="utf-8")
    ended = supervise.run(counting_line(command.count(tool, group, report, request)), log, log, LIMIT_S)
    if ended.timed_out or ended.error or not answer.is_file() or not report.is_file():
        said = supervise.said(log).strip().splitlines()
        why = "took too long" if ended.timed_out else ended.error or (said[-1] if said else f"ended with {ended.status}")
        return {"counters": list(group), "reason": f"Nsight Compute: {why}"}
    supervise.run(command.print_page(tool, report), csv, csv.with_suffix(".import"), LIMIT_S)
    try:
        counted = page.read_page(csv)
    except (AnalyzerError, OSError) as error:
        return {"counters": list(group), "reason": str(error)}
    columns = {name: counted.column(name) for name in (*counted.metrics,)}
    rows = [
        {name: None if math.isnan(values[place]) else values[place] for name, values in columns.items()}
        for place in range(len(counted.rows))
    ]
    told = json.loads(answer.read_text(encoding="utf-8"))
    cases, why = joined(told["cases"], rows)
    return {"counters": list(group), "reason": why, "absent": told["failed"], "cases": cases}


def main(given: list[str]) -> int:
    """Count every group that has to do with memory and write ``results/calibration-counters.json``."""
    from analyzer.capture.ncu import provider
    from analyzer.capture.presets import resolve
    from analyzer.errors import AnalyzerError
    from analyzer.schema.settings import CaptureSettings

    try:
        values = read_words(given, WORDS)
        resolved = resolve(CaptureSettings(device=values["device"]))
        prepared = provider.prepare("auto", resolved)
        prepared = provider.tried(prepared, resolved.device) if prepared is not None else None
    except (WordError, AnalyzerError) as error:
        print(f"error: {error}")
        return 1
    if prepared is None or not prepared.ready:
        print(prepared.obstacle.reason if prepared is not None and prepared.obstacle else "counters need an NVIDIA GPU")
        return EXIT_BLOCKED
    groups = [tuple(n for n in group if n not in prepared.unknown) for group in memory_groups(prepared.groups)]
    out = Path(values["out"]).absolute()
    with tempfile.TemporaryDirectory() as scratch:
        found = [count_group(prepared.tool, g, str(resolved.device), Path(scratch), n) for n, g in enumerate(groups, 1)]
    version = prepared.tool.version_text if prepared.tool else ""
    write_result("calibration-counters", values["device"], {"provider": "ncu", "version": version, "groups": found}, out)
    told = [each["reason"] for each in found if each["reason"]]
    for reason in told:
        print(reason)
    return 1 if len(told) == len(found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
