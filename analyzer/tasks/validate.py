"""``task=validate``: what the models predict against what hardware counters measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import ConfigError
from analyzer.progress import Reporter
from analyzer.schema.run import shown_name
from analyzer.schema.settings import Settings
from analyzer.tasks.inputs import matching, opened, own_sheet, report_directory, runs_inside, short_name
from analyzer.tasks.outcome import Outcome

if TYPE_CHECKING:
    from analyzer.hardware.sheet import GpuSheet
    from analyzer.insight.counters import Absence
    from analyzer.insight.validation.items import Item
    from analyzer.insight.validation.published import LeftOut
    from analyzer.schema.validation import Validation
    from analyzer.trace.counters import CounterFile
    from analyzer.trace.rundir import NewDirectory

PUBLISHED, COUNTERS, RUN = "published counters", "counters without a trace", "run"
SUFFIXES = (".csv", ".csv.gz")
CACHES = {"warm": "caches as the kernel before left them", "cold": "caches emptied before each kernel"}
MAX_LEFT_OUT, WIDTH = 12, 100


@dataclass(slots=True)
class _Gathered:
    """What the inputs gave. ``files``: counters without a trace; ``without``: why runs have none; ``used`` inputs have some."""

    items: list[Item]
    left: list[LeftOut]
    sources: list[tuple[str, str]]
    files: list[CounterFile]
    without: list[Absence]
    used: int = 0


def validate(settings: Settings, reporter: Reporter) -> Outcome:
    """Compare predictions with counters, kernel class by kernel class, and write the report.

    Raises:
        ConfigError: nothing was given, or no run has counters.
        TraceError: a file cannot be read.
    """
    named = inputs(settings.runs)
    if settings.counter_file is not None and [kind for _, kind in named] != [RUN]:
        raise ConfigError("counters=FILE.csv belongs to one run", "name one run directory or trace with runs=")
    sheet = own_sheet(settings)
    if settings.dry_run:
        lines = [f"would compare {path} ({kind})" for path, kind in named]
        return Outcome(lines, {"plan": {"runs": [{"path": str(path), "kind": kind} for path, kind in named]}})
    found = _gathered(named, settings, sheet, reporter)
    with report_directory(settings, f"validate-{short_name(named[0][0])}", _is_ours) as directory:
        from analyzer.insight.validation import validation_of

        validation = validation_of(found.items, found.left, tuple(found.sources), settings.capture.command)
        with reporter.stage("write report"):
            from analyzer.report.validation.page import write_validation

            write_validation(validation, directory.path, tuple(found.files))
    return _outcome(validation, directory)


def inputs(given: tuple[str, ...]) -> list[tuple[Path, str]]:
    """Return the files and directories that ``runs=`` names, each with what it is: PUBLISHED, COUNTERS or RUN.

    A file of counters that lies with a run in the same list belongs to it and is no input of its own. A directory that is no
    run and holds runs stands for these.

    Raises:
        ConfigError: nothing was given, or something that is named is not there.
    """
    if not given:
        raise ConfigError(
            "runs= is missing", "give runs with counters or a file of counters: runs=traces/X or runs=counters.csv"
        )
    paths = matching(given, _usable, "run and no file of counters")
    for path in paths:
        if not path.exists():
            raise ConfigError(f"{path} is not there", "runs= takes run directories, traces and CSV files of counters")
    return [(path, _kind(path)) for path in dict.fromkeys(opened(paths))]


def _usable(matches: list[Path]) -> list[Path]:
    """Return the runs, traces and tables in ``matches``, without counters that the reader of a run finds beside its trace."""
    paths = [
        m
        for m in matches
        if (m / "run.json").is_file()
        or runs_inside(m)
        or (m.is_file() and (".json" in m.suffixes or m.name.endswith(SUFFIXES)))
    ]
    traces = [path for path in paths if ".json" in path.suffixes]
    beside = {path.parent / f"{path.name.split('.json')[0]}.counters.csv" for path in traces}
    beside |= {path.parent / "counters.csv" for path in traces}
    return [path for path in paths if path not in beside]


def _kind(path: Path) -> str:
    from analyzer.insight.validation.published import is_published

    if path.is_dir() or not path.name.endswith(SUFFIXES):
        return RUN
    return PUBLISHED if is_published(path) else COUNTERS


def _gathered(named: list[tuple[Path, str]], settings: Settings, sheet: GpuSheet | None, reporter: Reporter) -> _Gathered:
    from analyzer.report.text import clean

    found = _Gathered([], [], [], [], [])
    with reporter.stage("compare", len(named)) as stage:
        for path, kind in named:  # one analysis in memory at a time
            {PUBLISHED: _published, COUNTERS: _counters, RUN: _run}[kind](path, settings, sheet, found)
            stage.advance()
    if not found.used:
        gone, path_of = found.without[0], clean(shown_name(named[0][0].name), 120)
        hint = gone.command or (f"{gone.how}; `analyzer task=report runs={path_of}` shows the commands" if gone.how else "")
        raise ConfigError(f"{path_of} has no counters: {clean(gone.why, 400)}", hint)
    if not found.items and not found.files and found.left:
        why = f"nothing in {clean(shown_name(named[0][0].name), 120)} could be compared: {clean(found.left[0].why, 400)}"
        raise ConfigError(why, "docs/validation-method.md tells the columns, and analyzer/hardware/gpus the names of GPUs")
    return found


def _published(path: Path, settings: Settings, sheet: GpuSheet | None, found: _Gathered) -> None:
    from analyzer.insight.validation.published import published_items

    items, left = published_items(path)
    found.items += items
    found.left += left
    found.sources.append((path.name, f"published counters, {len(items) + len(left)} rows"))
    found.used += 1


def _counters(path: Path, settings: Settings, sheet: GpuSheet | None, found: _Gathered) -> None:
    from analyzer.insight.validation.alone import file_items
    from analyzer.trace.counters import read_counter_file

    file = read_counter_file(path)
    items, left = file_items(file, sheet)
    found.items += items
    found.left += left
    found.files.append(file)
    told = "; ".join((file.tool or "tool not named", f"{len(file.rows)} counted launches, no trace", *file.notes))
    found.sources.append((file.name, told))
    found.used += 1


def _run(path: Path, settings: Settings, sheet: GpuSheet | None, found: _Gathered) -> None:
    from analyzer.analysis import analyze
    from analyzer.insight.counters import absence, counter_line
    from analyzer.insight.validation.published import LeftOut
    from analyzer.insight.validation.runs import run_items

    a = analyze(path, settings.selection, sheet=sheet, counters=settings.counter_file)
    if a.counters is None or a.counters.refused:
        gone = absence(a)
        found.without.append(gone)
        found.left.append(LeftOut("", "", f"{a.run.name}: {gone.why}", 0))
        return
    name = a.run.name if a.run.name not in {n for n, _ in found.sources} else f"{a.run.name}-{len(found.sources) + 1}"
    items, left = run_items(a, name)
    found.items += items
    found.left += left
    caches = {"warm": "caches warm", "cold": "caches emptied before each kernel"}.get(
        a.counters.mode, "state of caches not told"
    )
    found.sources.append((name, f"{a.counters.source}: {counter_line(a)}; {caches}"))
    found.used += 1


def _outcome(validation: Validation, directory: NewDirectory) -> Outcome:
    import textwrap

    from analyzer.format import size
    from analyzer.insight.validation import words
    from analyzer.report.text import clean
    from analyzer.report.validation.files import summary

    lines = [""]
    for quantity, mode, rows in words.blocks_of(words.shipped_rows(validation)):
        lines += [*textwrap.wrap(words.verdict(quantity, mode, rows), WIDTH), *words.table_lines(rows), ""]
    notes = (
        words.extent(validation),
        words.refit_sentence(validation),
        words.fitted_note(validation),
        words.overall_note(validation),
    )
    lines += [line for note in notes if note for line in textwrap.wrap(note, WIDTH)]
    left = words.left_out_lines(validation)
    if left:
        lines += ["", "Not compared, or not scored:"]
        for text in left[:MAX_LEFT_OUT]:
            lines += textwrap.wrap(clean(text, 300), WIDTH, initial_indent="  ", subsequent_indent="    ")
        if len(left) > MAX_LEFT_OUT:
            lines.append(f"  and {len(left) - MAX_LEFT_OUT} more, see the page")
    page = (directory.final or directory.path) / "index.html"
    lines += ["", f"Report: {page} ({size(page.stat().st_size)})"]
    return Outcome(lines, summary(validation), words.uncompared(validation))


def _is_ours(directory: Path) -> bool:
    from analyzer.report.validation.files import FILES, PREDICTIONS_FILE

    found = {entry.name for entry in directory.iterdir()}
    return {"index.html", PREDICTIONS_FILE} <= found <= {"index.html", *FILES}
