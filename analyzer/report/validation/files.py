"""The files of a validation: summary.json, predictions.csv (a row per figure) and scores.csv (a row per class)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from analyzer.insight.validation.words import (
    blocks_of,
    figures,
    fitted_note,
    headline,
    refit_sentence,
    shipped_rows,
    uncompared,
    verdict,
)
from analyzer.report.plain import plain
from analyzer.report.text import FULL_NAME_LIMIT, clean
from analyzer.schema.validation import QUANTITIES, Prediction, Score, Validation

VALIDATION_FORMAT_VERSION = 1
JSON_FILE, PREDICTIONS_FILE, SCORES_FILE = "summary.json", "predictions.csv", "scores.csv"
FILES = (JSON_FILE, PREDICTIONS_FILE, SCORES_FILE)
PREDICTION_COLUMNS = (
    "run", "gpu", "class", "key", "kernel", "op", "shapes", "mode", "quantity", "unit", "measured", "predicted", "low", "high",
    "error_pct", "inside", "calls", "share_pct", "half", "status", "refitted", "refitted_error_pct", "scored", "why",
)  # fmt: skip
SCORE_COLUMNS = (
    "quantity", "mode", "class", "parameters", "half", "n", "median_pct", "p90_pct", "worst_pct", "bias_pct", "inside_pct",
    "target_median_pct", "target_p90_pct", "target_inside_pct", "met", "fitted",
)  # fmt: skip


def prediction_rows(v: Validation) -> list[dict[str, Any]]:
    """Return an entry per prediction: PREDICTION_COLUMNS. Figures per launch; None where there is none."""
    return plain([dict(zip(PREDICTION_COLUMNS, _prediction(p), strict=True)) for p in v.predictions])  # type: ignore[no-any-return]


def _prediction(p: Prediction) -> tuple[Any, ...]:
    told = (p.run, p.gpu, p.family, p.key, p.kernel, p.op, p.shapes)
    return (
        *(clean(text, FULL_NAME_LIMIT) for text in told), p.mode, p.quantity, QUANTITIES[p.quantity][1], p.measured, p.point,
        p.low, p.high, p.error_pct, p.inside, p.calls, p.share_pct, p.half, p.status, p.refitted, p.refitted_error_pct,
        p.scored, clean(p.why),
    )  # fmt: skip


def score_rows(v: Validation) -> list[dict[str, Any]]:
    """Return an entry per score: SCORE_COLUMNS. Errors in %; None where there is none."""
    return plain([dict(zip(SCORE_COLUMNS, _score(s), strict=True)) for s in v.scores])  # type: ignore[no-any-return]


def _score(s: Score) -> tuple[Any, ...]:
    typical, most = s.target or (math.nan, math.nan)
    return (
        s.quantity, s.mode, s.family, s.parameters, s.half, s.n, s.median_pct, s.p90_pct, s.worst_pct, s.bias_pct, s.inside_pct,
        typical, most, s.inside_target, s.met, s.fitted,
    )  # fmt: skip


def summary(v: Validation) -> dict[str, Any]:
    """Return what summary.json holds: verdicts, errors, parameters, and what was left out. predictions.csv has each figure."""
    out = {
        "format_version": VALIDATION_FORMAT_VERSION,
        "headline": clean(headline(v)),
        "verdicts": [
            {"quantity": quantity, "mode": mode, "text": verdict(quantity, mode, rows)}
            for quantity, mode, rows in blocks_of(shipped_rows(v))
        ],
        "refitted": refit_sentence(v),
        "fitted": fitted_note(v),
        "figures": figures(v),
        "kernels": len({p.key for p in v.predictions}),
        "scores": score_rows(v),
        "parameters": [asdict(p) for p in v.parameters],
        "left_out": [
            {"class": family, "quantity": quantity, "why": clean(why), "kernels": n} for family, quantity, why, n in v.left_out
        ],
        "not_compared": [clean(text) for text in uncompared(v)],
        "sources": [[clean(name, 200), clean(what)] for name, what in v.sources],
    }
    return plain(out)  # type: ignore[no-any-return]


def write_files(v: Validation, directory: Path) -> dict[str, Any]:
    """Write summary.json, predictions.csv and scores.csv into ``directory`` and return the summary."""
    found = summary(v)
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / JSON_FILE).write_text(text + "\n", encoding="utf-8", errors="replace")
    for name, columns, rows in (
        (PREDICTIONS_FILE, PREDICTION_COLUMNS, prediction_rows(v)),
        (SCORES_FILE, SCORE_COLUMNS, score_rows(v)),
    ):
        pd.DataFrame(rows, columns=list(columns)).to_csv(directory / name, index=False, errors="replace")
    return found
