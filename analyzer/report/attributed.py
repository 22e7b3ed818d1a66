"""How much of a run's time has its operator and its module, in words and for ``summary.json``."""

from __future__ import annotations

import math
from typing import Any

from analyzer.format import count, counted, percent
from analyzer.report.marks.time import time_word
from analyzer.report.text import clean
from analyzer.schema.compiled import Attribution
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.results import Analysis

MAX_NOTES = 6
ALL_BUT_PCT = 99.5
"""From here on a rounded share would read as 100 %, so what is missing is told instead."""

SEVERAL = "; a kernel with operators of several modules counts whole for the module of its main operator"


def attribution_text(a: Analysis) -> str:
    """Return which shares of a run's time have operators and modules, and why not more; empty where nothing ran."""
    found = a.attribution
    if found is None or math.isnan(found.operators_pct):
        return ""
    whole = f"of the {time_word(a)}"
    modules = (
        f", the module for {_share(found.modules_pct)}" if math.isfinite(found.modules_pct) else "; the module is unavailable"
    )
    said = [f"{whole}, the operator is known for {_share(found.operators_pct)}{modules}"]
    if found.operators_pct == found.modules_pct == 100:
        said = [f"all {whole} has a known operator and a known module"]
    if found.fused_pct > 0:
        said.append(f"{_share(found.fused_pct)} {whole} is code that a compiler generated{SEVERAL if found.calls else ''}")
    if found.calls:
        said.append(_graphs(found))
    if found.replayed_pct > 0:
        known = f"for {_share(found.aligned_pct)} of that the same code, run without them, tells the operator"
        untold = "kernels of a CUDA graph carry no operator"
        said.append(f"CUDA graphs replayed {_share(found.replayed_pct)} {whole}; {known if found.aligned_pct > 0 else untold}")
    return " ".join(f"{_sentence(text)}" for text in (*said, *(clean(note, 600) for note in found.notes[:MAX_NOTES])))


def _graphs(found: Attribution) -> str:
    made = f"{counted(found.calls, 'kernel', 'kernels')} in {counted(found.graphs, 'graph', 'graphs')} came from torch.compile"
    return f"{made}; the trace shows {_share(found.matched_pct)} of their calls" if math.isfinite(found.matched_pct) else made


def attribution_fact(a: Analysis) -> str:
    """Return the same shares as a fact in a table: ``98 % / unavailable``."""
    found = a.attribution
    return f"{_share(found.operators_pct)} / {_share(found.modules_pct)}" if found else ""


def attribution_entry(found: Attribution | None) -> dict[str, Any] | None:
    """Return the entry of a run in ``summary.json``: shares as figures, None where nothing was looked at."""
    if found is None:
        return None
    why = clean(found.notes[0], 600) if found.notes else "no kernel time"
    no_graph = "CUDA graphs replayed nothing"
    no_calls = "no compiled.json.gz, or nothing of it in the trace"
    return {
        "operators_pct": _figure(found.operators_pct, "no kernel time"),
        "modules_pct": _figure(found.modules_pct, why),
        "fused_pct": _figure(found.fused_pct, "no kernel time"),
        "replayed_pct": _figure(found.replayed_pct, "no kernel time"),
        "aligned_pct": _figure(found.aligned_pct, no_graph),
        "graphs": found.graphs,
        "calls": found.calls,
        "matched_pct": _figure(found.matched_pct, no_calls),
        "notes": [clean(note, 600) for note in found.notes],
    }


def _figure(value: float, why: str) -> dict[str, Any]:
    return (Quantity(value, "%", Evidence.DERIVED) if math.isfinite(value) else Quantity.missing("%", why)).to_json()


def _share(value: float) -> str:
    if value == 100:
        return "all"
    if ALL_BUT_PCT <= value < 100:
        return f"all but {percent(100 - value)}"
    return percent(value) if value else count(0) + " %"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
