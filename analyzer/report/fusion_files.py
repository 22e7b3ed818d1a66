"""What summary.json and fusion.csv say of what compiling changed."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import pandas as pd

from analyzer.report.text import clean, without_homes
from analyzer.schema.evidence import Evidence
from analyzer.schema.fusion import FUSION_COLUMNS, FusedGroup, Fusion, ModuleChange, Side


def fusion_summary(found: Fusion) -> dict[str, Any]:
    """Return the entry of summary.json: times in µs per batch, differences eager minus compiled."""
    prediction = found.prediction
    return {
        "eager": _side(found.eager),
        "compiled": _side(found.compiled),
        "basis": found.basis,
        "ratio": found.ratio.to_json() if found.ratio else None,
        "total_us": found.total_us,
        "interval_us": list(found.interval_us) if found.interval_us else None,
        "kernel_delta_us": found.kernel_delta_us,
        "matched_eager_pct": _known(found.matched_eager_pct),
        "matched_compiled_pct": _known(found.matched_compiled_pct),
        "bandwidth": found.bandwidth.to_json(),
        "groups": [_group(group) for group in found.groups],
        "modules": [_module(change) for change in found.modules],
        "rest": [asdict(rest) | {"delta_us": rest.delta_us, "evidence": rest.evidence.value} for rest in found.rest],
        "prediction": {
            "finding": clean(prediction.title),
            "saving": prediction.saving.to_json(),
            "chains_us": _known(prediction.chains_us),
            "delta_us": prediction.delta_us,
        }
        if prediction
        else None,
        "cautions": [clean(text) for text in found.cautions],
    }


def _side(side: Side) -> dict[str, Any]:
    out = {name: value for name, value in asdict(side).items() if name != "place"}
    numbers = {name: _known(value) for name, value in out.items() if isinstance(value, float)}
    return out | numbers | {"label": clean(side.label), "library": side.library}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _group(group: FusedGroup) -> dict[str, Any]:
    texts = {name: [clean(text, 200) for text in getattr(group, name)] for name in ("operators", "modules", "kernels")}
    numbers = {name: _known(value) for name, value in _figures(group).items()}
    return {"part": group.part, **texts, "calls": group.calls, **numbers}


def _figures(group: FusedGroup) -> dict[str, float]:
    names = (
        "eager_us", "compiled_us", "delta_us", "matched_pct", "bytes_apart", "bytes_whole", "bytes_saved", "saved_us",
    )  # fmt: skip
    return {name: float(getattr(group, name)) for name in names}


def _module(change: ModuleChange) -> dict[str, Any]:
    terms = [{"term": term, "eager_us": eager, "compiled_us": compiled} for term, eager, compiled in change.terms]
    return {
        "module": clean(change.module, 200),
        "eager_us": change.eager_us,
        "compiled_us": change.compiled_us,
        "delta_us": change.delta_us,
        "shared_pct": change.shared_pct,
        "evidence": change.evidence.value,
        "terms": terms,
    }


def fusion_rows(found: Fusion | None) -> pd.DataFrame:
    """Return the rows of fusion.csv, FUSION_COLUMNS: one per group; none where no eager run stands beside its compiled one."""
    rows = []
    for group in found.groups if found else ():
        texts = {
            "operators": "+".join(map(without_homes, group.operators)),
            "modules": "; ".join(map(without_homes, group.modules)),
            "kernels": "; ".join(map(without_homes, group.kernels)),
        }
        level = Evidence.MODELLED if math.isfinite(group.bytes_saved) else group.evidence
        numbers = {"operators_per_kernel": len(group.operators), "calls": group.calls, **_figures(group)}
        rows.append({"part": group.part, **texts, **numbers, "evidence": level.value})
    return pd.DataFrame(rows, columns=list(FUSION_COLUMNS))
