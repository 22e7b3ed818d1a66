"""Section "steady": how steady the measurement was."""

from __future__ import annotations

import numpy as np

from analyzer.format import count, counted, digits, interval, percent
from analyzer.report.blocks import Block, Cell, Figure, Head, Notice, Prose, Row, Section, Table, number
from analyzer.report.figures.steady import iterations as draw_iterations
from analyzer.report.figures.steady import telemetry as draw_telemetry
from analyzer.report.marks.steady import MAX_POINTS, Iterations, Telemetry, iterations, telemetry
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis, Study

COLUMNS = 2
QUANTILES = (
    ("fastest", "shortest untraced iteration"),
    ("5 %", "a twentieth of the untraced iterations take no longer"),
    ("25 %", "a quarter of the untraced iterations take no longer"),
    ("median", "half of the untraced iterations take no longer"),
    ("75 %", "three quarters of the untraced iterations take no longer"),
    ("95 %", "a twentieth of the untraced iterations take longer"),
    ("slowest", "longest untraced iteration"),
)
RANGES = (
    ("lowest", "lowest sample of the whole recording"),
    ("median", "median of the samples"),
    ("highest", "highest sample of the whole recording"),
    ("cap", "limit that the driver reports; – where there is none"),
)


def section(study: Study) -> Section:
    """Return every timed iteration and the telemetry, or one line on why there is none."""
    blocks: list[Block] = []
    runs = len(study.analyses)
    timed = [iterations(a, i, MAX_POINTS // runs) for i, a in enumerate(study.analyses)]
    sampled = [telemetry(a, i, MAX_POINTS // runs) for i, a in enumerate(study.analyses)]
    for a, found in zip(study.analyses, timed, strict=True):
        if found is None:
            blocks.append(
                Notice(
                    f"{clean(a.label, 60)}: no untraced iterations, because this is a bare trace; record a run with "
                    "analyzer to get latency with its interval, clocks and power."
                )
            )
        else:
            blocks.append(Prose(_sentence(a), Evidence.MEASURED))
    shown = tuple(found for found in timed if found is not None)
    if shown:
        title = "Every timed iteration"
        how = (
            "Each mark is one untraced iteration; line and band are the median and its 95 % interval. At the side, the share "
            "of iterations that took no longer than the time on the y axis. Time axes do not start at zero."
        )
        blocks.append(Figure("fig9", title, how, draw_iterations(shown, title), _iterations_table(shown)))
    blocks += _telemetry(study, [found for found in sampled if found is not None], sampled)
    return Section("steady", "How steady was it?", "Steadiness", tuple(blocks))


def _sentence(a: Analysis) -> str:
    found = a.latency
    median = found.median_ms
    traced = found.traced_ms
    slowdown = f"; traced steps take {digits(traced.value)} ms" if traced.value is not None else ""
    n, processes = counted(found.n, "iteration", "iterations"), counted(found.processes, "process", "processes")
    return (
        f"{clean(a.label, 60)}: median {digits(median.value)} ms per batch, 95 % interval {interval(median)}, {n} in "
        f"{processes}; the middle half spreads over {percent(found.spread_pct)} of the median{slowdown}."
    )


def _iterations_table(runs: tuple[Iterations, ...]) -> Table:
    rows = []
    for run in runs:
        quantiles = [float(q) for q in np.quantile(run.latency_ms, (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0))]
        rows.append(Row((Cell(clean(run.label, 60)), Cell(count(len(run.latency_ms)), float(len(run.latency_ms))),
                         *(number(value, 3) for value in quantiles))))  # fmt: skip
    heads = (
        Head("run"),
        Head("n", "", True, Evidence.MEASURED, "untraced iterations of all processes"),
        *(Head(name, "ms", True, Evidence.MEASURED, meaning) for name, meaning in QUANTILES),
    )
    return Table("steady-table", "Quantiles of the untraced iterations", heads, tuple(rows))


def _telemetry(study: Study, found: list[Telemetry], every: list[Telemetry | None]) -> list[Block]:
    blocks: list[Block] = [
        Notice(f"{clean(a.label, 60)}: no telemetry was sampled{_why(a)}.")
        for a, sampled in zip(study.analyses, every, strict=True)
        if sampled is None and a.run.facts is not None
    ]
    how = (
        "The shaded stretch is the timed, untraced pass. Lines join samples and mean nothing between them; the same quantity "
        "has the same axis in every column."
    )
    for place in range(0, len(found), COLUMNS):
        part = tuple(found[place : place + COLUMNS])
        number_ = "fig10" if place == 0 else f"fig10-{place // COLUMNS + 1}"
        title = "Telemetry"
        known = [run.held for run in part if run.held is not None]
        tail = ""
        if known:
            tail = " Clocks were held down in the coloured stretches." if any(known) else " No sample shows clocks held down."
        blocks.append(Figure(number_, title, how + tail, draw_telemetry(part, title, number_), _telemetry_table(part, number_)))
    return blocks


def _why(a: Analysis) -> str:
    facts = a.run.facts.telemetry if a.run.facts else None
    reason = (facts.nvml.reason or facts.psutil.reason) if facts else ""
    return f": {clean(reason)}" if reason else ""


def _telemetry_table(runs: tuple[Telemetry, ...], name: str) -> Table:
    rows = []
    for run in runs:
        for panel in run.panels:
            for line in panel.lines:
                cells = (
                    Cell(clean(run.label, 60)),
                    Cell(f"{panel.name} {line.name}".strip()),
                    Cell(panel.unit),
                    *(number(value, 1) for value in line.range),
                    number(panel.cap, 1) if panel.cap is not None else Cell("–"),
                )
                rows.append(Row(cells))
    heads = (
        Head("run"),
        Head("quantity", meaning="what was sampled, and of which part"),
        Head("unit"),
        *(Head(name, "", True, Evidence.MEASURED, meaning) for name, meaning in RANGES),
    )
    return Table(f"{name}-table", "Ranges of the samples", heads, tuple(rows))
