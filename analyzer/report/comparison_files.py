"""The files of a comparison: summary.json, facts.csv, gains.csv, matched.csv and changes.csv."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analyzer.report.plain import plain
from analyzer.report.text import FULL_NAME_LIMIT, clean
from analyzer.schema.comparison import Change, Comparison, GapMove, MatchedOperator, Normalised
from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Quantity

COMPARISON_FORMAT_VERSION = 1
FILES = ("summary.json", "facts.csv", "gains.csv", "matched.csv", "changes.csv")
"""Names of the files beside the page of a comparison."""
_OPTIONAL = {"index.html"}
MAX_ENTRIES = 1000
"""Changes and gains that the summary holds; the tables beside it hold all."""
_JOINED = " | "

FACT_COLUMNS = ("topic", "fact", "run", "value", "differs", "warning")
GAIN_COLUMNS = ("what", "name", "run", "baseline", "basis", "ratio", "low", "high", "evidence", "source")
MATCHED_COLUMNS = ("kind", "op", "shapes", "dtype", "module", "run", "calls", "time_us", "kernels")
CHANGE_COLUMNS = (
    "by", "name", "kind", "first", "second", "first_us", "second_us", "delta_us", "low_us", "high_us", "state", "evidence",
    "source", "first_kernels", "second_kernels",
)  # fmt: skip


def write_comparison_files(comparison: Comparison, directory: Path) -> dict[str, Any]:
    """Write FILES into ``directory`` and return what summary.json holds.

    Raises:
        OSError: the directory cannot be written to.
    """
    found = summary(comparison)
    (directory / "summary.json").write_text(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    tables = {"facts": _facts, "gains": _gains, "matched": _matched, "changes": _changes}
    columns = {"facts": FACT_COLUMNS, "gains": GAIN_COLUMNS, "matched": MATCHED_COLUMNS, "changes": CHANGE_COLUMNS}
    for name, rows in tables.items():
        frame = pd.DataFrame(plain(rows(comparison)), columns=list(columns[name]))
        frame.to_csv(directory / f"{name}.csv", index=False, lineterminator="\n")
    return found


def is_comparison(names: Iterable[str]) -> bool:
    """Tell whether files of these ``names`` are a comparison and nothing else."""
    found = set(names)
    return {"summary.json", "facts.csv"} <= found <= {*FILES, *_OPTIONAL}


def summary(comparison: Comparison) -> dict[str, Any]:
    """Return what summary.json holds: plain JSON values, None where there is no figure."""
    c = comparison
    out = {
        "format_version": COMPARISON_FORMAT_VERSION,
        "headline": clean(c.headline),
        "reason": clean(c.reason, 1800),
        "reasons": [{"text": clean(r.text), "target": r.target} for r in c.reasons],
        "caveats": [{"level": caveat.level, "text": clean(caveat.text), "target": caveat.target} for caveat in c.caveats],
        "not_measured": [clean(text) for text in c.not_measured],
        "baseline": clean(c.names[c.baseline]),
        "runs": [_run(c, number, run) for number, run in enumerate(c.runs)],
        "facts": [
            {
                "topic": row.topic, "fact": row.fact, "values": [clean(value) for value in row.values], "differs": row.differs,
                "warning": row.warning or None,
            }
            for row in c.facts
        ],
        "moves": [_move(c, move) for move in c.moves],
        "gains": [
            {
                "role": g.role, "run": clean(c.names[g.run]), "baseline": clean(c.names[g.baseline]), "basis": g.basis,
                "speedup": g.speedup.to_json(), "note": clean(g.note) or None,
            }
            for g in c.gains[:MAX_ENTRIES]
        ],
        "offers": [
            {
                "name": clean(o.name), "run": clean(c.names[o.run]), "baseline": clean(c.names[o.baseline]),
                "ratio": o.ratio.to_json(), "note": clean(o.note) or None,
            }
            for o in c.offers[:MAX_ENTRIES]
        ],
        "operators": {
            "count": len(c.matched),
            "in_all_runs": sum(None not in row.time_us for row in c.matched),
            "left_out": c.operators_left_out,
        },
        "changes": [_change(change) for change in c.changes[:MAX_ENTRIES]],
        "changes_left_out": max(len(c.changes) - MAX_ENTRIES, 0),
        "normalised": [_normalised(c, row) for row in c.normalised],
    }  # fmt: skip
    return plain(out)  # type: ignore[no-any-return]


def _run(c: Comparison, number: int, run: Digest) -> dict[str, Any]:
    return {
        "name": clean(c.names[number]),
        "label": clean(run.label),
        "place": clean(c.places[number]),
        "trace": clean(run.trace),
        "device": clean(run.device.name),
        "device_type": run.device.type,
        "datasheet": run.hardware.key or None,
        "family": clean(run.family) or None,
        "batch_size": run.batch_size,
        "image_size": run.image_size,
        "dtype": clean(run.dtype),
        "steps": run.steps,
        "time_ms": c.times[number].to_json(),
        "image_ms": c.image_times[number].to_json() if c.image_times else None,
        "images_per_s": c.image_rates[number].to_json() if c.image_rates else None,
        "matched_pct": c.matched_pct[number],
        "peak_memory": run.peak_memory.to_json(),
        "kinds": run.kinds.to_dict("records"),
    }


def _move(c: Comparison, move: GapMove) -> dict[str, Any]:
    return {
        "device": clean(move.device),
        "conditions": clean(move.conditions),
        "vit": clean(c.names[move.vit]),
        "cnn": clean(c.names[move.cnn]),
        "ratio": move.ratio.to_json(),
        "vit_ms": move.vit_ms.to_json(),
        "cnn_ms": move.cnn_ms.to_json(),
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "by": change.by,
        "name": clean(change.name),
        "kind": change.kind or None,
        "first_us": change.first_us,
        "second_us": change.second_us,
        "delta_us": change.delta_us.to_json(),
        "state": change.state,
    }


def _normalised(c: Comparison, row: Normalised) -> dict[str, Any]:
    figures = {name: value for name in Normalised.__slots__ if isinstance(value := getattr(row, name), Quantity)}
    return {"run": clean(c.names[row.run])} | {name: figure.to_json() for name, figure in figures.items()}


def _facts(c: Comparison) -> list[list[Any]]:
    return [
        [row.topic, row.fact, clean(name), clean(value), row.differs, clean(row.warning)]
        for row in c.facts
        for name, value in zip(c.names, row.values, strict=True)
    ]


def _gains(c: Comparison) -> list[list[Any]]:
    names = [clean(name) for name in c.names]
    rows = [["gain", g.role, names[g.run], names[g.baseline], g.basis, *_figure(g.speedup, "")] for g in c.gains]
    return rows + [
        ["offer", clean(o.name), names[o.run], names[o.baseline], "datasheet", *_figure(o.ratio, o.note)] for o in c.offers
    ]


def _figure(figure: Quantity, note: str) -> list[Any]:
    source = "; ".join(text for text in (figure.source, note) if text)
    return [figure.value, figure.low, figure.high, figure.evidence.value, clean(source)]


def _matched(c: Comparison) -> list[list[Any]]:
    names = [clean(name) for name in c.names]
    return [line for row in c.matched for line in _operator(names, row)]


def _operator(names: Sequence[str], row: MatchedOperator) -> list[list[Any]]:
    """Return a line for each run that has the operator."""
    head = [row.kind, clean(row.op), clean(row.shapes, FULL_NAME_LIMIT), clean(row.dtype), clean(row.module)]
    calls = row.calls or (None,) * len(names)
    cells = zip(names, calls, row.time_us, row.kernels, strict=True)
    return [[*head, name, count, time, _kernels(kernels)] for name, count, time, kernels in cells if time is not None]


def _kernels(names: Sequence[str]) -> str:
    return _JOINED.join(clean(name, FULL_NAME_LIMIT) for name in names)


def _changes(c: Comparison) -> list[list[Any]]:
    if not c.changes:
        return []
    first, second = clean(c.names[c.baseline]), clean(c.names[1 - c.baseline])
    return [
        [
            change.by, clean(change.name, FULL_NAME_LIMIT), change.kind, first, second, change.first_us, change.second_us,
            change.delta_us.value, change.delta_us.low, change.delta_us.high, change.state, change.delta_us.evidence.value,
            clean(change.delta_us.source), *map(_kernels, change.kernels),
        ]
        for change in c.changes
    ]  # fmt: skip
