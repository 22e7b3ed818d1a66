"""The files beside the page: summary.json, kernels.csv and launches.csv.gz, as section 5 of the design lists them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from analyzer.insight.gap import normalised
from analyzer.metrics.kernels import COLUMNS
from analyzer.report.access_files import ENTRY_COLUMNS, access_summary, entry
from analyzer.report.attributed import attribution_entry
from analyzer.report.facts import environment
from analyzer.report.finding_entries import finding_entry
from analyzer.report.fusion_files import fusion_rows, fusion_summary
from analyzer.report.memory_files import memory_summary, peak_memory
from analyzer.report.plain import plain
from analyzer.report.text import clean, without_homes
from analyzer.schema.counters import COUNTED, CounterView
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.ledger import LEDGER_COLUMNS
from analyzer.schema.profile import TREE_COLUMNS
from analyzer.schema.results import Analysis, Gap, Idle, Study, run_names

SUMMARY_FORMAT_VERSION = 1
FILES = (
    "summary.json", "kernels.csv", "operators.csv", "modules.csv", "ledger.csv", "fusion.csv", "access.csv",
    "operator_tree.csv", "module_tree.csv", "counted.csv", "launches.csv.gz",
)  # fmt: skip
"""Names of the files beside the page."""
MAX_UNMODELLED = 200
"""Operators without a work model in the summary, the longest; one more entry has the sum of the others."""

LAUNCH_COLUMNS = ("run", "index", "start_us", "dur_us", "device", "stream", "correlation", "kernel", "op", "module")
COUNTED_COLUMNS = (
    "run", "kernel", "kind", "role", "op", "module", "shapes", "dtype", "grid", "block", "calls", "time_us",
    "bytes_dram_counter", "bytes_dram_read_counter", "bytes_dram_write_counter", "bytes_compulsory", "bytes_dram_low",
    "bytes_dram_high", "bytes_l2_fill_counter", "bytes_l2_sm_counter", "bytes_l2_read", "bytes_sm_l2_counter", "l2_hit_pct",
    "l1_hit_pct", "occupancy_achieved_pct", "occupancy_pct", "occupancy_theoretical_pct", "tensor_active_pct",
    "flop_tensor_counter", "flop",
)  # fmt: skip
"""Columns of counted.csv: what was counted beside what the models have, of the rows of kernels.csv with a counter."""
ACCESS_COLUMNS = ("run", *ENTRY_COLUMNS)
_M, _D, _MOD = Evidence.MEASURED, Evidence.DERIVED, Evidence.MODELLED


def summary(study: Study) -> dict[str, Any]:
    """Return what ``summary.json`` holds: plain JSON values, None where there is no figure."""
    verdict = study.verdict
    names = run_names(study.analyses)
    out = {
        "format_version": SUMMARY_FORMAT_VERSION,
        "headline": clean(verdict.headline),
        "reason": clean(verdict.reason, 1800),
        "reasons": [{"text": clean(r.text), "target": r.target} for r in verdict.reasons],
        "caveats": [{"level": c.level, "text": clean(c.text), "target": c.target} for c in verdict.caveats],
        "not_measured": [clean(text) for text in verdict.not_measured],
        "runs": [_run(a, name) for a, name in zip(study.analyses, names, strict=True)],
        "ratio": study.ratio.to_json() if study.ratio else None,
        "gap": _gap(study.gap) if study.gap else None,
        "fusion": fusion_summary(study.fusion) if study.fusion else None,
        "findings": [finding_entry(found) for found in study.findings],
        "environment": [
            {"fact": fact, "values": list(values), "differs": differs} for fact, values, differs in environment(study)
        ],
    }
    return plain(out)  # type: ignore[no-any-return]


def _run(a: Analysis, name: str) -> dict[str, Any]:
    t, facts = a.totals, a.run.facts
    out: dict[str, Any] = {
        "name": name,
        "label": clean(a.label),
        "trace": clean(a.run.trace_name),
        "gpu": clean(a.device.name) if a.device.type == "cuda" else None,
        "device": clean(a.device.name),
        "device_type": a.device.type,
        "vendor": a.device.vendor,
        "compute_capability": a.device.compute_capability,
        "sm_count": a.device.sm_count,
        "model": clean(facts.model.name) if facts else None,
        "family": clean(facts.model.family) if facts else None,
        "parameters": facts.model.parameters if facts else None,
        "batch_size": facts.settings.batch_size if facts else None,
        "image_size": facts.settings.image_size if facts else None,
        "dtype": a.dtype,
        "steps": a.window.steps,
        "window": a.window.source,
        "wall_us": _figure(t.wall_us, "us", _M),
        "kernel_time_us": _figure(t.kernel_time_us, "us", _M),
        "kernel_count": _figure(t.kernel_count, "", _M),
        "copy_us": _figure(t.copy_us, "us", _M),
        "busy_us": _figure(t.busy_us, "us", _M),
        "idle_us": _figure(t.idle_us, "us", _M),
        "idle": _idle(t.idle),
        "copy_only_us": _figure(t.copy_only_us, "us", _M),
        "dispatch_us": _figure(t.dispatch_us, "us", _M),
        "classified_pct": _figure(t.classified_pct, "%", _D),
        "modelled_pct": _figure(t.modelled_pct, "%", _D),
        "linked_pct": _figure(t.linked_pct, "%", _D),
        "occupancy_pct": t.occupancy_pct.to_json(),
        "occupancy_kineto_pct": t.occupancy_kineto_pct.to_json(),
        "flop": _work(t.flop, "FLOP"),
        "bytes_compulsory": _work(t.bytes_compulsory, "bytes", t.bytes_high),
        "roofline": _model(a),
        "unmodelled": _unmodelled(a),
        "attribution": attribution_entry(a.attribution),
        "access": access_summary(a.access) if a.access else None,
        "memory": memory_summary(a),
        "counters": _counters(a.counters),
        "impossible": [
            {
                "what": i.what,
                "kernel": clean(i.kernel),
                "subject": clean(i.subject),
                "explanation": i.explanation,
                "share_pct": i.share_pct,
                "level": "note" if i.explanation else "error",
            }
            for i in a.impossible
        ],
        "latency_ms": _latency(a),
        "kinds": [_kind(row) for row in a.kinds.to_dict("records")],
        "limits": [{"name": limit.name, **limit.figure.to_json()} for limit in a.limits],
        "warnings": [clean(text) for text in a.warnings],
    }
    return out | {"peak_memory_bytes": peak_memory(a).to_json()}


def _counters(view: CounterView | None) -> dict[str, Any] | None:
    """Return where the counters of a run came from and how far they were used, None where there are none."""
    if view is None:
        return None
    return {
        "source": clean(view.source),
        "kind": view.kind,
        "tool": clean(view.tool),
        "mode": view.mode,
        "rows": view.rows,
        "used": view.used,
        "matched_pct": view.matched_pct,
        "matching": clean(view.matching),
        "refused": clean(view.refused),
        "missing": [{"quantity": quantity, "why": clean(why)} for quantity, why in view.missing],
        "notes": [clean(text, 1000) for text in view.notes],
    }


def _figure(value: float, unit: str, evidence: Evidence) -> dict[str, Any]:
    if not math.isfinite(value):
        return Quantity.missing(unit, "not in this trace").to_json()
    return Quantity(value, unit, evidence).to_json()


def _idle(idle: Idle | None) -> dict[str, Any] | None:
    """Return the parts of a GPU's idle time, None on a CPU run."""
    if idle is None:
        return None
    return {name: _figure(value, "us", _D) for name, value in asdict(idle).items()}


def _work(value: float, unit: str, high: float | None = None) -> dict[str, Any]:
    """Zero work means that no shapes were recorded, not that nothing was computed. ``high``: the most it may be."""
    if not value:
        return Quantity.missing(unit, "no operator with a work model; record with record_shapes=True").to_json()
    band = high is not None and high > value
    return Quantity(value, unit, _MOD, low=value if band else None, high=high if band else None).to_json()


def _model(a: Analysis) -> dict[str, Any] | None:
    """Return the roofline of the whole model, None where nothing ran."""
    rows = a.rooflines.model.to_dict("records")
    return {str(key): value for key, value in rows[0].items() if key not in ("name", "kind")} if rows else None


def _unmodelled(a: Analysis) -> list[dict[str, Any]]:
    """Return the MAX_UNMODELLED longest, and where there are more an entry with the sums of the others (``more``: how many)."""
    groups = a.rooflines.unmodelled
    rows = groups.head(MAX_UNMODELLED).to_dict("records")
    out = [{str(key): value for key, value in row.items()} | {"op": clean(str(row["op"]))} for row in rows]
    rest = groups.iloc[MAX_UNMODELLED:]
    if len(rest):
        sums = {"calls": int(rest["calls"].sum()), "time_us": float(rest["time_us"].sum())}
        out.append({"op": "", "kind": "", "why": "", **sums, "share_pct": float(rest["share_pct"].sum()), "more": len(rest)})
    return out


def _latency(a: Analysis) -> dict[str, Any] | None:
    if a.latency is None:
        return None
    median = a.latency.median_ms
    return {
        "median": median.value, "low": median.low, "high": median.high, "n": a.latency.n, "unit": "ms",
        "evidence": median.evidence.value, "processes": a.latency.processes, "spread_pct": a.latency.spread_pct,
        "traced": a.latency.traced_ms.to_json(), "source": median.source,
    }  # fmt: skip


def _kind(row: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): str(value) if key == "kind" else float(value) for key, value in row.items()}


def _gap(gap: Gap) -> dict[str, Any]:
    return {
        "first": clean(gap.first),
        "second": clean(gap.second),
        "first_us": gap.first_us,
        "second_us": gap.second_us,
        "total_us": gap.total_us,
        "interval_us": list(gap.interval_us) if gap.interval_us else None,
        "unexplained_us": gap.unexplained_us,
        "unnamed_us": gap.unnamed_us,
        "open_us": gap.open_us,
        "basis": gap.basis,
        "parts": gap.table().to_dict("records"),
        "roles": [asdict(role) for role in gap.roles],
        "scaling": [{"run": clean(ledger.label)} | asdict(ledger.scaling) for ledger in (gap.one, gap.two)],
        "per": {by: _normalised(gap, by) for by in ("image", "GFLOP")},
    }


def _normalised(gap: Gap, by: Literal["image", "GFLOP"]) -> dict[str, Any] | None:
    """Return the gap per image or per GFLOP by cause, None where a run does not tell how many it has."""
    found = normalised(gap, by)
    if found is None:
        return None
    sums = found.table().groupby("term", sort=False)[["first_us", "second_us", "delta_us"]].sum().reset_index()
    totals = {"first_us": found.first_us, "second_us": found.second_us, "total_us": found.total_us}
    return totals | {"terms": sums.to_dict("records")}


def write_files(study: Study, directory: Path) -> dict[str, Any]:
    """Write the files beside the page into ``directory`` and return the summary."""
    found = summary(study)
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / "summary.json").write_text(text + "\n", encoding="utf-8")
    names = run_names(study.analyses)
    kernels = [_kernels(a, name) for a, name in zip(study.analyses, names, strict=True)]
    _join(kernels, COLUMNS).to_csv(directory / "kernels.csv", index=False, errors="replace")
    counted = [_counted(a, name) for a, name in zip(study.analyses, names, strict=True)]
    _join(counted, COUNTED_COLUMNS).to_csv(directory / "counted.csv", index=False, errors="replace")
    for which in ("operators", "modules"):
        grouped = [
            _roofline(getattr(a.rooflines, which), name, which[:-1]) for a, name in zip(study.analyses, names, strict=True)
        ]
        _join(grouped, grouped[0].columns.tolist()).to_csv(directory / f"{which}.csv", index=False, errors="replace")
    ledgers = [ledger.table().assign(run=name) for ledger, name in zip(study.ledgers, names, strict=True)]
    columns = ["run", *LEDGER_COLUMNS]
    _join(ledgers, columns)[columns].to_csv(directory / "ledger.csv", index=False, errors="replace")
    fusion_rows(study.fusion).to_csv(directory / "fusion.csv", index=False, errors="replace")
    found_access = [_access_rows(a, name) for a, name in zip(study.analyses, names, strict=True)]
    _join(found_access, ACCESS_COLUMNS).to_csv(directory / "access.csv", index=False, errors="replace")
    for which in ("operators", "modules"):
        trees = [_tree(a, name, which) for a, name in zip(study.analyses, names, strict=True)]
        path = directory / f"{which[:-1]}_tree.csv"
        _join(trees, ("run", *TREE_COLUMNS)).to_csv(path, index=False, errors="replace")
    launches = [_launches(a, name) for a, name in zip(study.analyses, names, strict=True)]
    _join(launches, LAUNCH_COLUMNS).to_csv(
        directory / "launches.csv.gz", index=False, errors="replace", compression={"method": "gzip", "mtime": 1}
    )
    return found


def _join(frames: list[pd.DataFrame], columns: tuple[str, ...] | list[str]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=list(columns))


def _access_rows(a: Analysis, name: str) -> pd.DataFrame:
    """Return the rows of access.csv: one per distinct kernel on the run's own device, times and bytes per batch."""
    if a.access is None:
        return pd.DataFrame(columns=list(ACCESS_COLUMNS))
    own = a.access.own
    return pd.DataFrame([{"run": name} | entry(p, own) for p in a.access.patterns], columns=list(ACCESS_COLUMNS))


def _tree(a: Analysis, name: str, which: str) -> pd.DataFrame:
    """Return the rows of operator_tree.csv or module_tree.csv, times over the window, whole nanoseconds."""
    if a.host is None:
        return pd.DataFrame(columns=["run", *TREE_COLUMNS])
    tree: pd.DataFrame = getattr(a.host, which).round(3)
    return _homeless(tree.assign(run=name)[["run", *TREE_COLUMNS]], "path", "name")


def _kernels(a: Analysis, name: str) -> pd.DataFrame:
    # sums of whole nanoseconds: what is behind the third decimal is rounding
    frame = a.kernels.assign(run=name, time_us=a.kernels["time_us"].round(3))
    return _homeless(frame[list(COLUMNS)], *_named(a))


def _counted(a: Analysis, name: str) -> pd.DataFrame:
    """Return the rows of kernels.csv with a counter, and the models' figures beside them."""
    frame = a.kernels.assign(run=name, time_us=a.kernels["time_us"].round(3))
    told = frame[[column for column in COUNTED.names if column in frame]].notna().any(axis=1)
    return _homeless(frame.loc[told, list(COUNTED_COLUMNS)], *_named(a))


def _named(a: Analysis) -> tuple[str, ...]:
    """Return the columns that people name. On a CPU run what ran is an operator; names of GPU kernels stay as they are."""
    return ("op", "module") if a.device.type == "cuda" else ("kernel", "op", "module")


def _homeless(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return ``frame`` with no home folder in the texts of ``columns``."""
    shown = {}
    for column in columns:
        codes, names = pd.factorize(frame[column], use_na_sentinel=False)
        if any("/" in str(name) or "\\" in str(name) for name in names):
            kept = [without_homes(name) if isinstance(name, str) else name for name in names]
            shown[column] = np.array(kept, object)[codes]
    return frame.assign(**shown)


def _roofline(frame: pd.DataFrame, run: str, what: str) -> pd.DataFrame:
    out = frame.rename(columns={"name": what}).assign(time_us=frame["time_us"].round(3))
    out.insert(0, "run", run)
    return _homeless(out, what)


def _launches(a: Analysis, name: str) -> pd.DataFrame:
    rows = a.launches[a.launches["category"].isin(("kernel", "operator"))]
    out = rows.assign(run=name, start_us=_microseconds(rows["start_ns"]), dur_us=_microseconds(rows["dur_ns"]))
    return _homeless(out[list(LAUNCH_COLUMNS)], *_named(a))


def _microseconds(ns: pd.Series[int]) -> pd.Series[str]:
    """Return whole nanoseconds as microseconds in text: a float would lose them where the clock counts from 1970."""
    size, sign = ns.abs(), ns.lt(0).map({True: "-", False: ""})
    return sign + (size // 1000).astype(str) + "." + (size % 1000).astype(str).str.zfill(3)
