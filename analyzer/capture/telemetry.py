"""Telemetry beside the run: starts the sampler process, stops it, and returns what it read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analyzer.capture import processes
from analyzer.schema.run import SourceFacts, TelemetryFacts
from analyzer.schema.tables import SAMPLES

MODULE = "analyzer.capture.sampler"
"""The program that samples."""


@dataclass
class Telemetry:
    """What the sampler read; filled in when the block of ``sampled`` ends."""

    period_s: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    facts: TelemetryFacts | None = None

    def frame(self) -> pd.DataFrame:
        """Return the samples as the table SAMPLES; what could not be read is NaN."""
        if not self.rows:
            return SAMPLES.empty()
        frame = pd.DataFrame(self.rows, columns=SAMPLES.names)
        types = {c.name: "int64" if c.dtype == "int" else "float64" for c in SAMPLES.columns}
        return SAMPLES.check(frame.astype(types))


@contextmanager
def sampled(scratch: Path, period_s: float, nvml: bool, uuid: str | None) -> Iterator[Telemetry]:
    """Sample this process, and the GPU ``uuid`` when ``nvml``, while the block runs.

    Never fails a run: a sampler that cannot start or dies is recorded as unavailable, with the reason.
    """
    telemetry = Telemetry(period_s)
    path = scratch / "samples.raw.jsonl"
    settings = {"pid": os.getpid(), "period_s": period_s, "nvml": nvml, "uuid": uuid, "path": str(path.absolute())}
    try:
        process = processes.start(MODULE)
    except OSError as error:
        telemetry.facts = _unavailable(period_s, f"the sampler could not start: {error.strerror}")
        yield telemetry
        return
    try:
        _send(process, settings)
        yield telemetry
    finally:
        ended = processes.stop(process)
        telemetry.rows, summary = _read(path)
        path.unlink(missing_ok=True)
        why = "" if ended else " and was killed"
        telemetry.facts = (
            _facts(period_s, summary)
            if summary is not None
            else _unavailable(period_s, f"the sampler ended with status {process.returncode}{why}", len(telemetry.rows))
        )


def _send(process: Any, settings: dict[str, Any]) -> None:
    try:
        process.stdin.write(json.dumps(settings) + "\n")
        process.stdin.flush()
    except OSError:
        return  # it died at once; its missing summary says so


def _read(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    rows: list[dict[str, Any]] = []
    summary: dict[str, Any] | None = None
    if not path.is_file():
        return rows, None
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # the last line of a sampler that was killed
        if "summary" in entry:
            summary = entry["summary"]
        else:
            rows.append(entry)
    return rows, summary


def _facts(period_s: float, summary: dict[str, Any]) -> TelemetryFacts:
    sources = {name: SourceFacts(**summary[name]) for name in ("psutil", "nvml", "gpm")}
    return TelemetryFacts(period_s=period_s, samples=summary["samples"], **sources)


def _unavailable(period_s: float, reason: str, samples: int = 0) -> TelemetryFacts:
    gone = SourceFacts(available=False, reason=reason)
    return TelemetryFacts(period_s=period_s, samples=samples, psutil=gone, nvml=gone, gpm=gone)
