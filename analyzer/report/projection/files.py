"""The files of a projection: summary.json, and projection.csv with a row per group of kernels and target."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from analyzer.insight.projection.words import headline
from analyzer.report.plain import plain
from analyzer.report.text import FULL_NAME_LIMIT, clean
from analyzer.schema.evidence import Evidence
from analyzer.schema.projection import ESTIMATED, FLOOR, REFUSED, VALIDATED, ClassTotal, Projection, RunProjection, Total

PROJECTION_FORMAT_VERSION = 1
JSON_FILE, CSV_FILE = "summary.json", "projection.csv"
FILES = (JSON_FILE, CSV_FILE)
CSV_COLUMNS = (
    "run", "target", "class", "role", "kind", "op", "module", "shapes", "dtype", "arithmetic", "kernel", "calls", "source_us",
    "time_us", "low_us", "high_us", "floor_us", "by_ratio_of_peaks_us", "by_ratio_of_bandwidths_us", "status", "why", "scheme",
    "evidence",
)  # fmt: skip


def evidence_of(status: str) -> Evidence:
    """Return the evidence of a projected time; one that is kept was measured on the source, and on the target it is a model."""
    return Evidence.UNAVAILABLE if status in (FLOOR, REFUSED) else Evidence.MODELLED


def ends_of(status: str, low_us: float, high_us: float) -> tuple[float, float]:
    """Return the interval of a time, NaN where it has none: only calibrated times have one."""
    return (low_us, high_us) if status in (VALIDATED, ESTIMATED) else (math.nan, math.nan)


def rows(projection: Projection) -> list[dict[str, Any]]:
    """Return one entry per run, target and group of kernels: CSV_COLUMNS. Times in µs per batch, None where there is none."""
    found = []
    for run in projection.runs:
        for place, target in enumerate(projection.targets):
            for g in run.groups:
                on = g.on[place]
                what = (g.family, g.role, g.kind, g.op, g.module, g.shapes, g.dtype, g.arithmetic, g.kernel)
                low, high = ends_of(on.status, on.low_us, on.high_us)
                ratios = (on.by_peaks_us, on.by_bandwidths_us)
                figures = (g.calls, g.source_us, on.time_us, low, high, on.floor_us, *ratios)
                texts = (clean(text, FULL_NAME_LIMIT) for text in (run.name, target.key, *what))
                found.append((*texts, *figures, on.status, clean(on.why), on.scheme, evidence_of(on.status).value))
    return plain([dict(zip(CSV_COLUMNS, row, strict=True)) for row in found])  # type: ignore[no-any-return]


def summary(projection: Projection) -> dict[str, Any]:
    """Return what summary.json holds: per run and target the total, its classes, what it rests on, and the validation."""
    out = {
        "format_version": PROJECTION_FORMAT_VERSION,
        "headline": " ".join(clean(headline(run, total)) for run in projection.runs for total in run.totals),
        "runs": [_run(run) for run in projection.runs],
        "targets": [asdict(target) for target in projection.targets],
        "validation": [asdict(score) for score in projection.scores],
        "calibration": dict(projection.sources),
    }
    return plain(out)  # type: ignore[no-any-return]


def _run(run: RunProjection) -> dict[str, Any]:
    return {
        "name": clean(run.name, 120), "label": clean(run.label, 120), "source": clean(run.source, 120),
        "per_batch": run.per_batch, "kernel_us": run.kernel_us, "waiting_us": run.waiting_us,
        "targets": [_total(run, total) for total in run.totals],
    }  # fmt: skip


def _total(run: RunProjection, total: Total) -> dict[str, Any]:
    level = Evidence.UNAVAILABLE if total.reason else Evidence.MODELLED
    time = {"value": total.time_us, "low": total.low_us, "high": total.high_us, "unit": "us"}
    return {
        "target": total.target.key,
        "headline": clean(headline(run, total)),
        "kernels": time | {"evidence": level.value, "reason": total.reason},
        "whole": {"low": total.least_us, "high": total.most_us, "unit": "us", "evidence": level.value},
        "same_gpu": total.same,
        "arithmetic": total.arithmetic,
        "floor_us": total.floor_us,
        "kept_us": total.kept_us,
        "validated_pct": total.validated_pct,
        "classes": [_class(found) for found in total.classes],
        "notes": list(total.notes),
    }


def _class(found: ClassTotal) -> dict[str, Any]:
    low, high = ends_of(found.status, found.low_us, found.high_us)
    return asdict(found) | {"low_us": low, "high_us": high}


def write_files(projection: Projection, directory: Path) -> dict[str, Any]:
    """Write summary.json and projection.csv into ``directory`` and return the summary."""
    found = summary(projection)
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / JSON_FILE).write_text(text + "\n", encoding="utf-8", errors="replace")
    table = pd.DataFrame(rows(projection), columns=list(CSV_COLUMNS))
    table.to_csv(directory / CSV_FILE, index=False, errors="replace")
    return found
