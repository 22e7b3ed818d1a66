"""The files of a report from shapes alone: access.json and access.csv, one entry per distinct layer and GPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analyzer.insight.locality import claim
from analyzer.report.plain import plain
from analyzer.report.text import FULL_NAME_LIMIT, clean
from analyzer.schema.access import AccessResult, CacheFacts, PatternAccess
from analyzer.schema.evidence import Evidence

ACCESS_FORMAT_VERSION = 1
JSON_FILE, CSV_FILE = "access.json", "access.csv"


@dataclass(frozen=True, slots=True)
class AccessReport:
    """What is reported: a result per model, the GPUs that were asked for, and the limits that time floors rest on.

    ``peaks``: (GPU, limit, figure with its unit, source).
    """

    results: tuple[AccessResult, ...]
    gpus: tuple[CacheFacts, ...]
    dtype: str
    command: tuple[str, ...] = ()
    peaks: tuple[tuple[str, str, str, str], ...] = ()


def patterns(report: AccessReport) -> list[dict[str, Any]]:
    """Return one entry per distinct layer and GPU, as JSON values; None where there is no figure.

    ``flop`` and ``bytes_*`` are totals over ``calls``, ``bytes_*`` and ``dram_read_*`` in bytes per batch.
    """
    found = [entry(p, gpu) for result in report.results for p in result.patterns for gpu in report.gpus]
    return plain(found)  # type: ignore[no-any-return]


ENTRY_COLUMNS = (
    "pattern", "gpu", "model", "module", "shapes", "dtype", "kernel", "hypothetical", "in_parts", "calls", "time_us", "flop",
    "bytes_compulsory", "bytes_l2_sm", "bytes_dram_low", "bytes_dram_high", "dram_read_low", "dram_read_high", "reuse_factor",
    "footprint_bytes", "dependency", "byte_share", "reuse_distance_median_bytes", "reuse_distance_p90_bytes", "span_ratio",
    "stride_entropy", "knee_bytes", "tiles", "order", "confidence", "l2_model", "l2_model_source",
)  # fmt: skip
"""Keys of an entry, in order."""


def entry(p: PatternAccess, gpu: CacheFacts | None) -> dict[str, Any]:
    """Return one layer on one GPU; ``gpu`` is None where the device has no cache model.

    ``flop``, ``bytes_*`` and ``time_us`` are totals over ``calls``, all per batch.
    """
    traffic, found = p.traffic.get(gpu.key) if gpu else None, p.locality
    low, high = traffic.total if traffic else (None, None)
    read_low, read_high = traffic.read if traffic else (None, None)
    return {
        "pattern": p.pattern,
        "gpu": gpu.key if gpu else None,
        "model": clean(p.model, 60),
        "module": clean(p.module),
        "shapes": clean(p.shapes, FULL_NAME_LIMIT),
        "dtype": p.dtype,
        "kernel": clean(p.kernel, FULL_NAME_LIMIT) or None,
        "hypothetical": p.hypothetical,
        "in_parts": p.in_parts,
        "calls": int(p.calls) if float(p.calls).is_integer() else p.calls,
        "time_us": p.time_us or None,
        "flop": p.flop * p.calls,
        "bytes_compulsory": p.compulsory_bytes * p.calls,
        "bytes_l2_sm": sum(p.l2_sm_bytes) * p.calls,
        "bytes_dram_low": _times(low, p.calls),
        "bytes_dram_high": _times(high, p.calls),
        "dram_read_low": _times(read_low, p.calls),
        "dram_read_high": _times(read_high, p.calls),
        "reuse_factor": found.reuse_factor,
        "footprint_bytes": found.footprint_bytes,
        "dependency": found.dependency,
        "byte_share": found.byte_share,
        "reuse_distance_median_bytes": found.distance_median_bytes,
        "reuse_distance_p90_bytes": found.distance_p90_bytes,
        "span_ratio": found.span_ratio,
        "stride_entropy": found.stride_entropy,
        "knee_bytes": p.curve.knee_bytes if p.curve else None,
        "tiles": p.tiles,
        "order": p.order,
        "confidence": p.confidence,
        "l2_model": gpu.status if gpu else None,
        "l2_model_source": gpu.source if gpu else None,
    }


def _times(value: float | None, calls: float) -> float | None:
    return None if value is None else value * calls


def document(report: AccessReport) -> dict[str, Any]:
    """Return what access.json holds beside the patterns: models, GPUs, the claim, sums over image sizes, and costs."""
    found = claim(report.results)
    out = {
        "format_version": ACCESS_FORMAT_VERSION,
        "claim": {
            "sentence": clean(found.sentence, 1800), "reasons": [clean(r) for r in found.reasons], "outcome": found.outcome,
        },
        "dtype": report.dtype,
        "models": [
            {
                "model": clean(r.model, 60), "batch_size": r.batch_size, "image_size": r.image_size, "attention": r.attention,
                "left_out": [{"what": what, "why": why} for what, why, _ in r.left_out],
            }
            for r in report.results
        ],
        "gpus": [asdict(gpu) for gpu in report.gpus],
        "sizes": [asdict(point) for r in report.results for point in r.sizes],
        "costs": [asdict(cost) for r in report.results for cost in r.costs],
    }  # fmt: skip
    return plain(out)  # type: ignore[no-any-return]


def access_summary(result: AccessResult) -> dict[str, Any]:
    """Return what summary.json says of the access of one run: totals per batch over the kernels that ran, and costs."""
    own = result.own
    ran = [entry(p, own) for p in result.patterns if not p.hypothetical]
    sums = {
        name: sum(found) if (found := [row[name] for row in ran if row[name] is not None]) else None
        for name in ("bytes_compulsory", "bytes_l2_sm", "bytes_dram_low", "bytes_dram_high")
    }
    return {
        "modelled_pct": result.modelled_pct,
        "attention": result.attention,
        "cache": asdict(own) if own else None,
        **sums,
        "costs": [asdict(cost) for cost in result.costs],
        "left_out": [{"kind": kind, "why": why, "share_pct": share} for kind, why, share in result.left_out],
        "evidence": Evidence.MODELLED.value,
    }


def write_access_files(report: AccessReport, directory: Path) -> dict[str, Any]:
    """Write access.json and access.csv into ``directory`` and return the document without its patterns."""
    found, rows = document(report), patterns(report)
    text = json.dumps(found | {"patterns": rows}, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / JSON_FILE).write_text(text + "\n", encoding="utf-8", errors="replace")
    pd.DataFrame(rows).to_csv(directory / CSV_FILE, index=False, errors="replace")
    return found


def is_access_report(found: Sequence[str]) -> bool:
    """Tell whether files of these names are a report from shapes alone and nothing else."""
    return {"index.html", JSON_FILE} <= set(found) <= {"index.html", JSON_FILE, CSV_FILE}
