"""Tables and cards of section "roofline": rates of operators, modules and models, what has no model, what cannot be true."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from analyzer.format import count, percent
from analyzer.metrics.arithmetic import WINOGRAD_SAVING
from analyzer.report.blocks import Alert, Block, Cell, Folded, Head, Row, Table, missing, number
from analyzer.report.marks.time import time_word
from analyzer.report.text import clean, kernel_label, operator_label
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis, Impossible, Study

MAX_ROWS = 40
OPEN_ROWS = 8
MAX_ITEMS = 12
MAX_REASONS = 15
MODELLED, MEASURED, DERIVED = Evidence.MODELLED, Evidence.MEASURED, Evidence.DERIVED

HEADS = (
    Head("time", "ms", True, MEASURED, "sum of the durations, per step where the trace names steps"),
    Head("share", "%", True, MEASURED, "of the kernel time of its run"),
    Head("rate", "TFLOP/s", True, MODELLED, "FLOP over the time that has a work model"),
    Head("of its peak", "%", True, MODELLED, "of the peak of the units and number formats that ran, weighted by their work"),
    Head(
        "memory", "GB/s", True, MODELLED, "compulsory bytes over the time that has a work model; real traffic is this or more"
    ),
    Head(
        "of DRAM", "%", True, MODELLED, "of the bandwidth used for floors; 'cache' where DRAM alone could not have been so fast"
    ),
    Head("FLOP/byte", "", True, MODELLED, "arithmetic intensity: FLOP over compulsory bytes"),
    Head(
        "floor", "%", True, MODELLED, "share of the modelled time that the device needs at least for this work, at its limits"
    ),
    Head("limit", "", False, MODELLED, "what limits the kernels with most of its time; see the kernel table"),
)


def model_table(study: Study) -> Table | None:
    """Return the roofline of each whole model; None where no launch has FLOP."""
    rows: list[Row] = []
    for a in study.analyses:
        label = Cell(clean(a.label, 60))
        rows += _rows(a, a.rooflines.model, lambda _, label=label: label)
    if not any(a.totals.flop for a in study.analyses):
        return None
    what = "kernels" if any(a.device.type == "cuda" for a in study.analyses) else "operators"
    note = f"All {what} of a run together. Rates are of the time that has a work model. {saving_note(study)}".rstrip()
    return Table("model-roofline-table", "Each run as a whole", (Head("run"), *HEADS), tuple(rows), note=note)


def operator_table(study: Study) -> Table | None:
    """Return the roofline of the operators of all runs; None where no launch has an operator."""

    def name(row: dict[Any, Any]) -> Cell:
        return Cell(operator_label(str(row["name"])) or "(no operator)", chip=str(row["kind"]))

    return _table(study, "operators", "operator", name, "operator-roofline-table", "By operator")


def module_table(study: Study) -> Table | None:
    """Return the roofline of the modules of all runs, alike ones together; None where the traces name no modules."""
    if not any(name for a in study.analyses for name in a.rooflines.modules["name"]):
        return None

    def name(row: dict[Any, Any]) -> Cell:
        path = clean(str(row["name"]), 300)
        parts = path.split(".")
        short = ".".join(parts[-2:]) if len(parts) > 2 else path
        return Cell(clean(short, 60) or "(no module)", detail=(("module", path),) if short != path else ())

    return _table(study, "modules", "module", name, "module-roofline-table", "By module; * stands for any number")


def _table(study: Study, which: str, head: str, name: Any, table_id: str, caption: str) -> Table | None:
    several = len(study.analyses) > 1
    rows: list[Row] = []
    total = 0
    for a in study.analyses:
        frame = getattr(a.rooflines, which)
        total += len(frame)
        found = _rows(a, frame.head(MAX_ROWS // len(study.analyses)), name)
        label = Cell(clean(a.label, 60))
        rows += [Row((r.cells[0], label, *r.cells[1:]), kind=r.kind, run=label.text) for r in found] if several else found
    if not rows:
        return None
    rows.sort(key=lambda row: -float(row.cells[2 if several else 1].value or 0))
    shown = f"{caption}; {count(len(rows))} of {count(total)} rows, all of them in {which}.csv"
    heads = (Head(head), *((Head("run"),) if several else ()), *HEADS)
    return Table(table_id, shown, heads, tuple(rows), note=saving_note(study), open_rows=OPEN_ROWS)


def saving_note(study: Study) -> str:
    """Return why "of its peak" is less than the rate over the peak where Winograd or FFT kernels ran, empty elsewhere."""
    saving = [(a, a.kernels["saving"].to_numpy(float)) for a in study.analyses if len(a.kernels)]
    winograd = any(((found > 1) & np.isfinite(found)).any() for _, found in saving)
    fft = any(np.isinf(found).any() for _, found in saving)
    said = []
    if winograd:
        said.append(
            f"Winograd kernels need fewer multiplications than the rate counts: their share of the peak is of the FLOP over "
            f"{count(WINOGRAD_SAVING)}, the most that they save, so it is less than the rate over the peak."
        )
    if fft:
        said.append("An FFT convolution has no share of the peak: how many multiplications it saves is not known.")
    return " ".join(said)


def _rows(a: Analysis, frame: pd.DataFrame, name: Any) -> list[Row]:
    steps = a.window.batches or 1
    places = 2 if a.device.type == "cuda" else 4
    out = []
    for row in frame.to_dict("records"):
        gbps, dram = float(row["gbps"]), float(row["dram_pct_of_peak"])
        cached = math.isfinite(gbps) and math.isnan(dram) and a.limits[0].figure.value is not None
        cells = (
            name(row),
            number(float(row["time_us"]) / 1e3 / steps, 3),
            number(float(row["share_pct"]), 1),
            number(float(row["tflops"]), places, MODELLED),
            number(float(row["peak_pct"]), 1, MODELLED),
            number(gbps, 1, MODELLED),
            Cell("cache", float("inf"), MODELLED) if cached else number(dram, 1, MODELLED),
            number(float(row["flop_per_byte"]), 2, MODELLED),
            number(float(row["floor_pct"]), 1, MODELLED),
            Cell(str(row["bound"]), evidence=MODELLED) if row["bound"] else missing(),
        )
        out.append(Row(cells, kind=str(row["kind"]), run=clean(a.label, 60)))
    return out


def unmodelled(study: Study) -> Folded | None:
    """Return what has no work model and why, None where everything has one."""
    rows = [row for a in study.analyses for row in _unmodelled_rows(a)]
    if not rows:
        return None
    heads = (
        Head("operator"), Head("run"), Head("kind"), Head("kernels", "", True, MEASURED, "launches without a work model"),
        Head("of its time", "%", True, MEASURED, "their share of the kernel time of the run"), Head("why"),
    )  # fmt: skip
    note = "Shapes are recorded with record_shapes=True. What has no model is in no rate, floor or sum of FLOP."
    table = Table("unmodelled-table", "Time without a work model, by operator", heads, tuple(rows), note=note)
    shares = "; ".join(
        f"{clean(a.label, 60)} {percent(100 - a.totals.modelled_pct)} of the {time_word(a)}"
        for a in study.analyses
        if a.totals.kernel_count and a.totals.modelled_pct < 100
    )
    return Folded(f"What has no work model, and why: {shares}", (table,))


def _unmodelled_rows(a: Analysis) -> list[Row]:
    groups, run = a.rooflines.unmodelled, Cell(clean(a.label, 60))
    out = []
    for row in groups.head(MAX_REASONS).to_dict("records"):
        cells = (
            Cell(operator_label(str(row["op"])) if row["op"] else "(no operator)"), run,
            Cell(str(row["kind"]), chip=str(row["kind"])), Cell(count(int(row["calls"])), float(row["calls"])),
            number(float(row["share_pct"]), 2), Cell(clean(str(row["why"]), 120)),
        )  # fmt: skip
        out.append(Row(cells))
    if len(groups) > MAX_REASONS:
        rest = groups.iloc[MAX_REASONS:]
        text = Cell(f"{len(rest)} more; the longest of them are in summary.json")
        calls = Cell(count(int(rest["calls"].sum())), float(rest["calls"].sum()))
        out.append(Row((text, run, Cell(""), calls, number(float(rest["share_pct"].sum()), 2), Cell(""))))
    return out


def alerts(study: Study) -> list[Block]:
    """Return the cards of figures that cannot be true, and the notes on those that can although they look so."""
    blocks: list[Block] = []
    for level, title, wanted in (
        ("error", "Figures that cannot be true, left out of every sum", False),
        ("note", "Above a limit, with the reason", True),
    ):
        found = [(a, i) for a in study.analyses for i in a.impossible if bool(i.explanation) == wanted]
        if not found:
            continue
        blocks.append(Alert(title, tuple(_notes(found) if wanted else _errors(found)), level))
    return blocks


def _errors(found: list[tuple[Analysis, Impossible]]) -> list[tuple[str, str]]:
    items = [(_subject(a, i), i.what) for a, i in found[:MAX_ITEMS]]
    more = len(found) - MAX_ITEMS
    return [*items, ("", f"and {more} more, all of them in summary.json")] if more > 0 else items


def _notes(found: list[tuple[Analysis, Impossible]]) -> list[tuple[str, str]]:
    """Return one line for each run and reason, with the case that takes longest."""
    groups: dict[tuple[str, str], list[tuple[Analysis, Impossible]]] = {}
    for a, i in found:
        groups.setdefault((a.label, i.explanation), []).append((a, i))
    out = []
    for (_, why), cases in groups.items():
        a, worst = max(cases, key=lambda case: case[1].share_pct)
        share = percent(sum(i.share_pct for _, i in cases))
        more = f", with {len(cases) - 1} more, {share} of the time together" if len(cases) > 1 else f", {share} of the time"
        out.append((_subject(a, worst) + more, f"{worst.what}: {why}"))
    return out


def _subject(a: Analysis, i: Impossible) -> str:
    parts = (clean(a.label, 60), kernel_label(i.kernel), clean(i.subject, 90))
    return " · ".join(part for part in parts if part)
