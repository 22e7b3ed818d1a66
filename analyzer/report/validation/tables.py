"""Tables of a validation: errors by class, halves, parameters, kernels, what was left out, and counters without a trace."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from analyzer.format import MISSING, count, digits, fixed_signed, marked, percent, scaled
from analyzer.insight.validation.families import EVERY, MODE_MEANINGS
from analyzer.insight.validation.items import BYTES, SMALL_BYTES
from analyzer.insight.validation.words import inside_text, met_text, shipped_rows, target_text
from analyzer.report.blocks import Cell, Head, Row, Table, difference, missing, number
from analyzer.report.text import FULL_NAME_LIMIT, clean, kernel_label, operator_label
from analyzer.report.validation.marks import title_of
from analyzer.schema.evidence import Evidence
from analyzer.schema.validation import FIT, FITTED, QUANTITIES, SHIPPED, WHOLE, Parameter, Prediction, Score, Validation

MEASURED, DERIVED, MODELLED = Evidence.MEASURED, Evidence.DERIVED, Evidence.MODELLED
OPEN_ROWS, MAX_ROWS = 20, 400

QUANTITY = Head("quantity", meaning="what is predicted and counted, per launch")
CLASS = Head("class", meaning="kernels that the access model treats alike and has one accuracy target for")
CACHES = Head("caches", meaning="the state of the caches when the kernel began while it was counted")
HALVES = "kernels were parted by a hash of GPU, class, name and problem; what was measured has no say"
N = Head("n", "", True, DERIVED, "distinct kernels: alike in GPU, class, name and problem")
MEDIAN = Head("median", "%", True, DERIVED, "half of the kernels have a smaller error; the sign of the error does not count")
P90 = Head("90 % within", "%", True, DERIVED, "nine in ten kernels have an error of this or less")
WORST = Head("worst", "%", True, DERIVED, "largest error")
BIAS = Head("bias", "%", True, DERIVED, "median of the errors with their signs: above 0 the model predicts too much")
INSIDE = Head(
    "in band", "", True, DERIVED, "predicted bands that hold the measured figure, to within 1 %, of those that are bands"
)
TARGET = Head("target", meaning="what the model aims at: median error, and error that nine in ten keep; or the share in band")
MET = Head(
    "met",
    meaning="whether every part of the target is met; “fitted”: all helped to fit the model; “few”: under three kernels",
)


def class_table(v: Validation) -> Table:
    """Return the errors of the shipped parameters by quantity, state of the caches and class."""
    heads = (
        QUANTITY, CLASS, CACHES, N, MEDIAN, P90, WORST, BIAS, INSIDE, TARGET, MET,
        Head("fitted on", "", True, DERIVED, "how many of the n kernels helped to fit a shipped parameter"),
    )  # fmt: skip
    rows = tuple(_class_row(row) for row in shipped_rows(v))
    note = "Errors of the point, in percent of the measured figure; parameters as shipped."
    return Table("validation-classes", "Error by class of kernel", heads, rows, note)


def _class_row(row: Score) -> Row:
    cells = (
        Cell(title_of(row.quantity)), Cell(row.family), Cell(row.mode), Cell(count(row.n), row.n, DERIVED), *_errors(row),
        Cell(inside_text(row) or "–", row.inside_pct if row.bands else None, DERIVED), Cell(target_text(row) or "–"),
        Cell(met_text(row).lower() or "–"),
        Cell(count(row.fitted), row.fitted, DERIVED),
    )  # fmt: skip
    return Row(cells, marked=row.family == EVERY, kind=title_of(row.quantity))


def _errors(row: Score) -> tuple[Cell, ...]:
    return (
        number(row.median_pct, 1, DERIVED), number(row.p90_pct, 1, DERIVED), number(row.worst_pct, 1, DERIVED),
        difference(row.bias_pct, 1, DERIVED),
    )  # fmt: skip


def half_table(v: Validation) -> Table:
    """Return the errors on each half, with the shipped parameters and with those fitted on the other half."""
    heads = (
        QUANTITY, CLASS, CACHES,
        Head("half", meaning=HALVES),
        Head("parameters", meaning="as shipped, or fitted here on the half for fitting"), N, MEDIAN, P90, WORST, BIAS,
    )  # fmt: skip
    words = {FIT: "for fitting"}
    rows = tuple(
        Row(
            (
                Cell(title_of(s.quantity)), Cell(s.family), Cell(s.mode), Cell(words.get(s.half, "for scoring")),
                Cell(s.parameters), Cell(count(s.n), s.n, DERIVED), *_errors(s),
            ),
            marked=s.parameters != SHIPPED, kind=title_of(s.quantity),
        )
        for s in v.scores
        if s.half != WHOLE
    )  # fmt: skip
    return Table("validation-halves", "Error on each half of the kernels", heads, rows)


def parameter_table(v: Validation) -> Table:
    """Return the parameters of each GPU, as shipped and as fitted on one half of these kernels."""
    heads = (
        Head("GPU"), Head("parameter", meaning="what the model of the cache takes from measurements"),
        Head("shipped", "", True, MODELLED, "the value that every report uses"),
        Head("refitted", "", True, MODELLED, "the value that the kernels for fitting give; n/a where fewer than three tell it"),
        Head("told by", "", True, DERIVED, "distinct kernels for fitting that tell it"),
    )  # fmt: skip
    return Table("validation-parameters", "Parameters of the model", heads, tuple(_parameter_row(p) for p in v.parameters))


_PARAMETERS = {
    "dram_read_overhead": ("DRAM reads per byte missed in L2", "an excess over 1 is what DRAM reads beside the data"),
    "l2_retained": (
        "bytes written that L2 may still hold at the end",
        "DRAM writes fall short of the output by up to this; the point takes half of it",
    ),
}  # fmt: skip


def _parameter_row(p: Parameter) -> Row:
    name, told = _PARAMETERS[p.name]
    figures = (_parameter(p.shipped, p.unit), _parameter(p.refitted, p.unit))
    return Row((Cell(clean(p.gpu, 60)), Cell(name, detail=(("meaning", told),)), *figures, Cell(count(p.n), p.n, DERIVED)))


def _parameter(value: float, unit: str) -> Cell:
    if not math.isfinite(value):
        return missing()
    text = scaled(value, "B") if unit == "bytes" else f"{digits(value, 4)} {unit}"
    return Cell(marked(text, MODELLED), value, MODELLED)


def kernel_table(v: Validation) -> Table:
    """Return every figure beside its prediction, those with the largest share of the kernel time first."""
    heads = (
        Head("kernel", meaning="name of the kernel without its arguments"), QUANTITY, CLASS, Head("GPU"), CACHES,
        Head("measured", "", True, MEASURED, "counted, mean per launch"),
        Head("predicted", "", True, MODELLED, "point of the model with the shipped parameters"),
        Head("low", "", True, MODELLED, "lower end of the band"), Head("high", "", True, MODELLED, "upper end of the band"),
        Head("error", "%", True, DERIVED, "of the point, in percent of the measured figure; in bytes below 1 MB"),
        Head("scored", meaning="whether its error counts in the table of classes; else open the name for the reason"),
        Head("half", meaning=HALVES), Head("status", meaning="whether a shipped parameter was fitted on this very figure"),
    )  # fmt: skip
    order = sorted(range(len(v.predictions)), key=lambda i: (-_share(v.predictions[i]), i))
    rows = tuple(_kernel_row(v.predictions[i]) for i in order[:MAX_ROWS])
    note = "Open a name for operator, shapes, run and reason; predictions.csv has all."
    if len(order) > MAX_ROWS:
        note += f" {count(len(order) - MAX_ROWS)} rows of shorter kernels are not shown."
    return Table("validation-kernels", "Each kernel, predicted and measured", heads, rows, note, OPEN_ROWS)


def _share(p: Prediction) -> float:
    return p.share_pct if math.isfinite(p.share_pct) else 0.0


def _kernel_row(p: Prediction) -> Row:
    told = {
        "kernel": clean(p.kernel, FULL_NAME_LIMIT), "operator": operator_label(p.op), "shapes": clean(p.shapes, 200),
        "run": clean(p.run, 120), "launches": count(p.calls),
        "of the kernel time": percent(p.share_pct) if math.isfinite(p.share_pct) else "", "not scored": clean(p.why, 300),
    }  # fmt: skip
    detail = tuple((name, text) for name, text in told.items() if text)
    unit = QUANTITIES[p.quantity][1]
    figures = (_figure(value, unit, MODELLED) for value in (p.point, p.low, p.high))
    cells = (
        Cell(kernel_label(p.kernel) or MISSING, detail=detail), Cell(title_of(p.quantity)), Cell(p.family),
        Cell(clean(p.gpu, 60)), Cell(p.mode), _figure(p.measured, unit, MEASURED), *figures, _error(p, unit),
        Cell("yes" if p.scored else "no"), Cell(p.half), Cell("fitted on it" if p.status == FITTED else p.status),
    )  # fmt: skip
    return Row(cells, kind=title_of(p.quantity))


def _figure(value: float, unit: str, evidence: Evidence) -> Cell:
    if not math.isfinite(value):
        return missing()
    text = f"{digits(value)} %" if unit == "%" else scaled(value, "B" if unit == "bytes" else unit)
    return Cell(marked(text, evidence), value, evidence)


def _error(p: Prediction, unit: str) -> Cell:
    if p.quantity in BYTES and p.measured < SMALL_BYTES:
        off = p.point - p.measured
        return Cell(f"{'+' if off > 0 else ''}{scaled(off, 'B')}", off, DERIVED)
    if not math.isfinite(p.error_pct):
        return missing()
    return Cell(fixed_signed(p.error_pct, 1), p.error_pct, DERIVED)


def left_out_table(v: Validation) -> Table:
    """Return what could not be compared or is not scored."""
    heads = (
        QUANTITY, CLASS,
        Head("kernels", "", True, DERIVED, "distinct kernels, or rows of a table; 0 where it is the whole run"), Head("why"),
    )  # fmt: skip
    rows = tuple(
        Row((Cell(title_of(quantity) or "all"), Cell(family or "–"), Cell(count(n), n, DERIVED), Cell(clean(why, 300))))
        for family, quantity, why, n in v.left_out
    )
    return Table("validation-left-out", "Not compared, or not scored", heads, rows)


def mode_listing(v: Validation) -> tuple[tuple[str, str], ...]:
    """Return what the words for the state of the caches mean, those that occur."""
    seen = {p.mode for p in v.predictions}
    return tuple((mode, text) for mode, text in MODE_MEANINGS.items() if mode in seen)


_COUNTED = (
    ("bytes_dram_counter", "DRAM", "bytes"), ("bytes_l2_sm_counter", "L2 to SMs", "bytes"), ("l2_hit_pct", "L2 hit", "%"),
    ("l1_hit_pct", "L1 hit", "%"), ("occupancy_ncu_pct", "theoretical occupancy", "%"),
    ("occupancy_achieved_pct", "achieved occupancy", "%"), ("tensor_active_pct", "tensor pipe active", "%"),
    ("flop_tensor_counter", "tensor operations", "FLOP"),
)  # fmt: skip
_MEANINGS = {
    "bytes_dram_counter": "bytes through DRAM, reads and writes", "bytes_l2_sm_counter": "bytes from L2 to the multiprocessors",
    "l2_hit_pct": "sectors found in L2", "l1_hit_pct": "sectors found in L1; loads through the TMA are not in it",
    "occupancy_ncu_pct": "warps that registers, shared memory and block size allow, as the counter tool has it",
    "occupancy_achieved_pct": "warps resident per active cycle", "tensor_active_pct": "cycles with the tensor pipe active",
    "flop_tensor_counter": "operations of the tensor cores, padding included",
}  # fmt: skip


def counted_tables(tables: Sequence[tuple[str, pd.DataFrame]]) -> list[Table]:
    """Return what was counted in files without a trace: (name, table of ``alone.counted_table``), empty columns left out."""
    out = []
    for place, (name, table) in enumerate(tables):
        known = [column for column in _COUNTED if table[column[0]].notna().any()]
        heads = (
            Head("kernel"), Head("grid", meaning="blocks of the launch"), Head("block", meaning="threads of a block"),
            Head("launches", "", True, MEASURED, "counted launches"),
            *(Head(words, "", True, MEASURED, _MEANINGS[column]) for column, words, _ in known),
        )  # fmt: skip
        rows = tuple(
            Row(
                (
                    Cell(kernel_label(row["kernel"]) or MISSING, detail=(("kernel", clean(row["kernel"], FULL_NAME_LIMIT)),)),
                    Cell(clean(row["grid"], 40)), Cell(clean(row["block"], 40)),
                    Cell(count(row["calls"]), row["calls"], MEASURED),
                    *(_figure(row[column], unit, MEASURED) for column, _, unit in known),
                )
            )
            for row in table.head(MAX_ROWS).to_dict("records")
        )  # fmt: skip
        note = "Means per launch." + (f" {count(len(table) - MAX_ROWS)} rows are not shown." if len(table) > MAX_ROWS else "")
        out.append(Table(f"validation-counted-{place}", f"What {clean(name, 80)} counted", heads, rows, note, OPEN_ROWS))
    return out
