"""The page of results as Markdown: tables of wall time and peak memory, growth with size, failures and differing answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.process import Spread, summarize
from benchmarks.results import Measurement, Results, Size

TOLERANCE = 1e-6
# Runs of at least this length are shown with one decimal.
LONG_S = 20.0

METHOD = """\
Each figure is of a whole process, from exec to exit: interpreter, imports, reading the compressed trace, the answer. Time is
wall time, the median with the least and the greatest. Memory is the peak of the process and all its descendants together
(resident set; with several processes the sum of their proportional sets, sampled). The contenders run in turn, round by round,
so that what else the machine does hits all alike; files are in the page cache and an unmeasured run of each comes first. Ratios
are of medians: 1.00 in the column *against ours* is as fast as this analyzer, 2.00 takes twice its time.

The traces are one real trace written several times after one another, each copy with its own times and ids
(`benchmarks/replicate.py`). Every answer, the number of kernels and their total time, is compared with an independent sum over
the source."""
KERNELS = """\
From a trace to the time per kernel. This analyzer, torch-tb-profiler and TraceLens link each kernel to its operator on the way.
The floor does not: it decodes the document once into typed objects of the ten or so fields that matter and adds up, without
pandas. *Floor + pandas* adds the import that whoever hands out tables must pay."""
REPORTS = """\
Everything each tool says about a trace, written to disk: this analyzer's page, summary and tables; all views of
torch-tb-profiler's page as the JSON it sends, with the trace and its counters; HolisticTraceAnalysis's seven breakdowns as CSV,
without figures; the CSV files of TraceLens's command. The reports differ in content: the table says how long one waits."""


def render_page(results: Results) -> str:
    """Return the page."""
    parts = ["# Performance", f"{_describe_machine(results)}\n\n{METHOD}", _describe_command(), "## Time per kernel", KERNELS]
    for size in _measured_sizes(results, report=False):
        parts += [f"### {_name_size(size)}", _render_table(results, size, report=False)]
    parts += ["### Growth", _render_growth(results), "## Whole report", REPORTS]
    for size in _measured_sizes(results, report=True):
        parts += [f"### {_name_size(size)}", _render_table(results, size, report=True)]
    parts += ["## What failed, differs or is missing", _render_notes(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _describe_machine(results: Results) -> str:
    machine = results.machine
    versions = "; ".join(
        f"{who}: {', '.join(f'{name} {version}' for name, version in which.items())}"
        for who, which in results.versions.items()
        if which
    )
    where = f"{machine.get('cpu')}, {machine.get('cores')} cores, {machine.get('memory_gib')} GiB, {machine.get('system')}"
    return f"Measured on {where}. Versions: {versions}. Source: `{results.source}`."


def _describe_command() -> str:
    return (
        "To measure again: `python -m benchmarks.trace_engine --trace TRACE --peers PEERS/bin/python` "
        "(`--help` for the rest; `benchmarks/peers.txt` is what the peers' environment holds)."
    )


def _of_kind(report: bool) -> tuple[Contender, ...]:
    return tuple(contender for contender in CONTENDERS if contender.report == report)


def _measured_sizes(results: Results, report: bool) -> list[Size]:
    names = {contender.name for contender in _of_kind(report)}
    copies = sorted({copies for name, copies in results.measurements if name in names})
    return [results.sizes[number] for number in copies]


def _name_size(size: Size) -> str:
    copies = "1 copy" if size.copies == 1 else f"{size.copies} copies"
    return f"{copies}: {size.raw_bytes / 1e6:,.1f} MB, {size.events:,} events, {size.kernels:,} kernels"


def wall_s(results: Results, name: str, copies: int) -> Spread | None:
    """Return the wall time of a contender, None where it was not measured or failed."""
    measurement = results.measurements.get((name, copies))
    if measurement is None or measurement.failure:
        return None
    return summarize([execution.wall_s for execution in measurement.executions])


def _render_table(results: Results, size: Size, report: bool) -> str:
    ours = wall_s(results, "report_ours" if report else "ours", size.copies)
    floor, pandas = (wall_s(results, name, size.copies) for name in ("floor_msgspec", "import_pandas"))
    bound_s = floor.median + pandas.median if floor and pandas and not report else None
    rows = []
    for contender in _of_kind(report):
        measurement = results.measurements.get((contender.name, size.copies))
        spread = wall_s(results, contender.name, size.copies)
        if measurement is None or spread is None:
            continue
        peak = summarize([execution.peak_bytes for execution in measurement.executions])
        row = [
            contender.title,
            _write_spread(spread),
            f"{peak.median / 1e6:,.0f}",
            _write_ratio(spread.median, _median(ours)),
        ]
        rows.append([*row, *([] if report else [_write_ratio(spread.median, bound_s)])])
    if bound_s is not None:
        rows.append(["floor + pandas (sum)", _write_seconds(bound_s), "", _write_ratio(bound_s, _median(ours)), "1.0"])
    head = ["", "wall s, median (min–max), runs", "peak MB", "against ours", *([] if report else ["against floor + pandas"])]
    return _write_table(head, rows)


def _render_growth(results: Results) -> str:
    """Return seconds per million events at each size: level where time grows in step with the trace."""
    sizes = _measured_sizes(results, report=False)
    rows = []
    for contender in _of_kind(report=False):
        spreads = [wall_s(results, contender.name, size.copies) for size in sizes]
        if contender.name != "import_pandas" and any(spreads):
            pairs = zip(spreads, sizes, strict=True)
            rates = (f"{spread.median / size.events * 1e6:.2f}" if spread else "" for spread, size in pairs)
            rows.append([contender.title, *rates])
    head = ["seconds per million events", *(f"{size.events / 1e6:.3f} M" for size in sizes)]
    return _write_table(head, rows)


def _render_notes(results: Results) -> str:
    titles = {contender.name: contender for contender in CONTENDERS}
    measured = {name for name, _ in results.measurements}
    missing = {name: reason for name, reason in results.absent.items() if name not in measured}
    lines = [f"- {_name(titles[name])}: not measured, {reason}." for name, reason in missing.items()]
    for (name, copies), measurement in sorted(results.measurements.items()):
        lines += [
            f"- {_name(titles[name])} at {copies}: {note}" for note in note_measurement(results, titles[name], measurement)
        ]
    return "\n".join(dict.fromkeys(lines)) or "Nothing: every contender ran and every answer agrees with the independent sum."


def _name(contender: Contender) -> str:
    return f"{contender.title} ({'report' if contender.report else 'kernels'})"


def note_measurement(results: Results, contender: Contender, measurement: Measurement) -> Iterable[str]:
    """Yield what must be said of ``measurement``: that it failed, what it left out, how its answer differs."""
    size = results.sizes[measurement.copies]
    if measurement.failure:
        last = measurement.executions[-1]
        yield f"failed after {last.wall_s:.1f} s, {last.peak_bytes / 1e6:,.0f} MB: {measurement.failure}"
        return
    answer = measurement.executions[-1].answer
    yield from (f"could not make {text}" for text in answer.get("failed", ()))
    if not contender.answers:
        return
    kernels, kernel_us = answer.get("kernels"), answer.get("kernel_us")
    if kernels != size.kernels:
        yield f"{kernels} kernels, the independent sum has {size.kernels:,}"
    if kernel_us is None or abs(kernel_us - size.kernel_us) > TOLERANCE * size.kernel_us:
        share = "" if kernel_us is None else f" ({kernel_us / size.kernel_us - 1:+.2%})"
        remark = contender.remark if (kernel_us or 0) > size.kernel_us else ""
        yield f"{kernel_us or 0:,.3f} µs in kernels{share}, the independent sum has {size.kernel_us:,.3f}{remark}"


def _median(spread: Spread | None) -> float | None:
    return spread.median if spread else None


def _write_seconds(value_s: float) -> str:
    return f"{value_s:.1f}" if value_s >= LONG_S else f"{value_s:.3f}"


def _write_spread(spread: Spread) -> str:
    if spread.n == 1:
        return f"{_write_seconds(spread.median)} (one run)"
    return f"{_write_seconds(spread.median)} ({_write_seconds(spread.low)}–{_write_seconds(spread.high)}), {spread.n}"


def _write_ratio(value: float, base: float | None) -> str:
    return f"{value / base:.2f}" if base else ""


def _write_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
