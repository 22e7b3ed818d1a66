"""The files of a crossover report: points.csv, best.csv and summary.json."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analyzer.format import counted
from analyzer.insight.crossover.contests import Best, Contest
from analyzer.insight.crossover.crossings import Track
from analyzer.insight.crossover.grid import Entry, Variant
from analyzer.insight.crossover.headline import headline, reason, say
from analyzer.insight.crossover.result import Crossover
from analyzer.insight.crossover.standings import Standing
from analyzer.report.crossover.untimed import reason_of
from analyzer.report.plain import plain
from analyzer.report.text import FULL_NAME_LIMIT, clean
from analyzer.schema.evidence import Quantity
from analyzer.schema.sweep import Point

FORMAT_VERSION, MAX_REASONS = 1, 4
JSON_FILE, POINTS_FILE, BEST_FILE = "summary.json", "points.csv", "best.csv"
FILES = (JSON_FILE, POINTS_FILE, BEST_FILE)
POINT_COLUMNS = (
    "key", "model", "name", "family", "options", "device", "batch_size", "image_size", "dtype", "layout", "attention",
    "compile", "autocast", "input", "cudnn_benchmark", "threads", "seed", "status", "reason", "hint", "run", "seconds",
    "created_utc", "latency_ms", "latency_low_ms", "latency_high_ms", "iterations", "processes", "images_per_s",
    "peak_bytes", "flop_per_image", "bytes_compulsory_per_image", "images_per_j", "images_per_price", "tokens",
    "attention_ran", "parameters", "peak_kind", "modelled_pct",
)  # fmt: skip
"""Columns of points.csv: one row for each point, without a time too; empty where there is no figure."""
BEST_COLUMNS = (
    "model", "device", "batch_size", "image_size", "setting", "key", "latency_ms", "latency_low_ms", "latency_high_ms",
    "images_per_s", "runner_up", "runner_up_ratio", "runner_up_ratio_low", "runner_up_ratio_high", "clear", "settings_timed",
    "settings_without_time", "why_none",
)  # fmt: skip
"""Columns of best.csv: one row for each model, device, batch and image size."""


def write_crossover_files(found: Crossover, directory: Path) -> dict[str, Any]:
    """Write the files into ``directory``, which exists, and return the summary."""
    out = summary(found)
    text = json.dumps(out, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / JSON_FILE).write_text(text + "\n", encoding="utf-8", errors="replace")
    names = {e.point.record.key: e for e in found.grid.entries}
    points = [_point(p, names.get(p.record.key), found) for p in found.sweep.points]
    for file, rows, columns in (
        (POINTS_FILE, points, POINT_COLUMNS),
        (BEST_FILE, [_best(b, found) for b in found.best], BEST_COLUMNS),
    ):
        pd.DataFrame(plain(rows), columns=list(columns), dtype=object).to_csv(directory / file, index=False, errors="replace")
    return out


def is_crossover_report(found: Sequence[str]) -> bool:
    """Tell whether files of these names are a crossover report and nothing else."""
    return {"index.html", JSON_FILE, POINTS_FILE} <= set(found) <= {"index.html", *FILES}


def _point(point: Point, entry: Entry | None, found: Crossover) -> dict[str, Any]:
    record, figures = point.record, point.figures
    setting = record.setting
    out: dict[str, Any] = {
        "key": clean(record.key, 80),
        "model": clean(setting.label, 200),
        "name": clean(setting.model, 200),
        "family": clean(setting.family, 40),
        "options": clean(json.dumps(setting.options, sort_keys=True, default=str), 300) if setting.options else None,
        "device": clean(found.grid.devices[entry.device] if entry else record.device.name, 200),
        "batch_size": setting.batch_size,
        "image_size": setting.image_size,
        **{name: clean(str(getattr(setting, name)), 60) for name in ("dtype", "layout", "attention", "compile")},
        "autocast": setting.autocast,
        "input": clean(setting.input, 60),
        "cudnn_benchmark": setting.cudnn_benchmark,
        "threads": setting.threads,
        "seed": setting.seed,
        "status": record.status,
        "reason": clean(point.problem or record.reason, 400) or None,
        "hint": clean(record.hint, 400) or None,
        "run": clean(record.run or "", 200) or None,
        "seconds": record.seconds or None,
        "created_utc": clean(record.created_utc, 40) or None,
    }
    if figures is None:
        return out
    latency = figures.latency_ms
    return out | {
        "latency_ms": latency.value,
        "latency_low_ms": latency.low,
        "latency_high_ms": latency.high,
        "iterations": sum(map(len, figures.samples)) or None,
        "processes": len(figures.samples) or None,
        "images_per_s": figures.images_per_s.value,
        "peak_bytes": figures.peak_bytes.value,
        "flop_per_image": figures.flop.value,
        "bytes_compulsory_per_image": figures.bytes_compulsory.value,
        "images_per_j": figures.images_per_j.value,
        "images_per_price": figures.images_per_price.value,
        "tokens": figures.tokens,
        "attention_ran": clean(figures.attention_ran or "", 80) or None,
        "parameters": figures.parameters,
        "peak_kind": clean(figures.peak_bytes.source, 120) if figures.peak_bytes.value is not None else None,
        "modelled_pct": figures.modelled_pct,
    }


def _best(b: Best, found: Crossover) -> dict[str, Any]:
    family = found.grid.models[b.model].family
    latency = b.best.latency_ms if b.best else None
    figures = b.best.point.figures if b.best else None
    return {
        "model": clean(found.grid.models[b.model].name, FULL_NAME_LIMIT),
        "device": clean(found.grid.devices[b.device], 200),
        "batch_size": b.batch,
        "image_size": b.size,
        "setting": clean(found.grid.words(b.best.variant, family), 200) if b.best else None,
        "key": clean(b.best.point.record.key, 80) if b.best else None,
        "latency_ms": latency.value if latency else None,
        "latency_low_ms": latency.low if latency else None,
        "latency_high_ms": latency.high if latency else None,
        "images_per_s": figures.images_per_s.value if figures else None,
        "runner_up": clean(found.grid.words(b.runner_up.variant, family), 200) if b.runner_up else None,
        "runner_up_ratio": b.gain.value if b.gain else None,
        "runner_up_ratio_low": b.gain.low if b.gain else None,
        "runner_up_ratio_high": b.gain.high if b.gain else None,
        "clear": b.clear if b.gain else None,
        "settings_timed": len(b.timed),
        "settings_without_time": sum(n for _, n in b.untimed),
        "why_none": b.why_none if b.best is None else None,
    }


def not_measured(found: Crossover) -> tuple[str, ...]:
    """Return what came of the points without a time, and which figures no point has."""
    reasons = Counter(reason_of(e) for e in found.grid.entries if e.latency_ms is None)
    out = [f"{counted(n, 'point', 'points')} without a time: {why}" for why, n in reasons.most_common(MAX_REASONS)]
    more = sum(reasons.values()) - sum(n for _, n in reasons.most_common(MAX_REASONS))
    out += [f"{counted(more, 'more point', 'more points')} without a time: see points.csv"] if more else []
    out += [f"{counted(len(found.sweep.missing), 'point was', 'points were')} not run"] if found.sweep.missing else []
    known = [p.figures for p in found.sweep.points if p.figures is not None]
    if known and not any(f.images_per_j.value for f in known):
        out.append(f"images per joule: {clean(known[0].images_per_j.source, 200)}")
    return tuple(out)


def summary(found: Crossover) -> dict[str, Any]:
    """Return what summary.json holds, as JSON values."""
    out = {
        "format_version": FORMAT_VERSION,
        "headline": clean(headline(found)),
        "reason": clean(reason(found)),
        "not_measured": not_measured(found),
        "name": clean(found.sweep.name, 200),
        "price": found.sweep.price,
        "points": len(found.sweep.points),
        "missing": [clean(text, 300) for text in found.sweep.missing[:200]],
        "models": [{"name": clean(m.name, 200), "family": clean(m.family, 40)} for m in found.grid.models],
        "devices": [clean(name, 200) for name in found.grid.devices],
        "fastest": [_standing(s) for s in found.standings],
        "pairs": [_track(t, found, None) for t in found.tracks],
        "like_for_like": [_track(t, found, pair) for *pair, t in found.alike] if found.grid.varying else [],
        "fits": [
            {
                "model": f.model, "device": f.device, "image_size": f.size, "largest_batch": f.largest,
                "smallest_too_large": f.smallest_failed,
            }
            for f in found.fits
        ],
        "mismatch": [
            {"first": m.first, "second": m.second, "flop_pct": dict(m.flop_pct), "parameters_pct": m.parameters_pct}
            for m in found.mismatches
        ],
    }  # fmt: skip
    return plain(out)  # type: ignore[no-any-return]


def _track(track: Track, found: Crossover, variants: Sequence[Variant] | None) -> dict[str, Any]:
    out: dict[str, Any] = {
        "first": track.first,
        "second": track.second,
        "device": track.device,
        "batch_size": track.batch,
        "sentence": clean(say(track, found)),
        "crossings": [
            {"state": c.state, "between_px": list(c.between), "below": c.below, "size": c.size_px.to_json()}
            for c in track.crossings
        ],
        "sizes": [_contest(c) for c in track.contests],
    }
    if variants is not None:
        names = zip(variants, (track.first, track.second), strict=True)
        out["settings"] = [clean(found.grid.words(v, found.grid.models[m].family), 200) for v, m in names]
    return out


def _standing(s: Standing) -> dict[str, Any]:
    return {
        "device": s.device,
        "batch_size": s.batch,
        "image_size": s.size,
        "order": list(s.order),
        "level": list(s.level),
        "second_takes": s.gap.to_json() if s.gap is not None else None,
        "outcome": ("clear" if s.clear else s.outcome) if s.outcome else None,
        "without_time": [{"why": clean(why, 100), "models": list(models)} for why, models in s.without],
    }


def _contest(c: Contest) -> dict[str, Any]:
    shown = c.ratio if c.ratio is not None else Quantity.missing("x", clean(c.why, 100) or "no time")
    return {"image_size": c.size, "outcome": c.outcome, "ratio": shown.to_json()}
