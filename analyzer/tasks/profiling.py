"""``task=profile`` and ``task=report``: run the models where asked for, then write one report on the runs."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import fields, replace
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import AnalyzerError, ConfigError
from analyzer.progress import Reporter
from analyzer.schema.settings import CaptureSettings, ModelChoice, Settings
from analyzer.tasks.inputs import expand_runs, is_counter_file, own_sheet, plan_lines, report_directory, short_name
from analyzer.tasks.outcome import Outcome
from analyzer.tasks.validate import validate

if TYPE_CHECKING:
    from analyzer.hardware.sheet import GpuSheet
    from analyzer.schema.results import Study
    from analyzer.trace.rundir import NewDirectory

MAX_RUNS = 6
_AHEAD = 2
"""Traces that other processes begin to read while this one imports what draws."""


def profile(settings: Settings, reporter: Reporter) -> Outcome:
    """Run the models, write their run directories, then the report."""
    if not settings.models:
        raise ConfigError("vit=none and cnn=none leave nothing to run", "choose a model, for example vit=vit_tiny_patch16_224")
    planned = _planned(settings)
    sheet = own_sheet(settings)
    from analyzer.capture import counting, session

    planned = _merged(planned)  # a value that cannot be met is told before the others are run
    if settings.dry_run:
        plans = [session.plan(choice, capture) for choice, capture in planned]
        return Outcome(plan_lines(plans), {"plan": plans})
    with report_directory(settings, "-".join(choice.name for choice in settings.models)) as directory:
        runs = []
        for number, (choice, capture) in enumerate(planned, start=1):
            if settings.variants:
                reporter.say(f"run {number} of {len(planned)}: {choice.label}, {', '.join(_own_words(capture, settings))}")
            try:
                runs.append(session.capture(choice, capture, reporter))
            except AnalyzerError as error:
                error.hint = _with_recorded(error.hint, runs)
                raise
        for way in dict.fromkeys(capture for _, capture in planned):
            mine = [(run, choice) for run, (choice, capture) in zip(runs, planned, strict=True) if capture == way]
            counting.count(mine, way, reporter)
        study = _write_report(runs, settings, sheet, directory, reporter)
    return _report_outcome(study, directory, runs)


def _with_recorded(hint: str, runs: list[Path]) -> str:
    """Return ``hint`` with what was recorded before a failure, which is there to be reported on."""
    names = ",".join(map(str, runs))
    told = f"recorded before that: {', '.join(run.name for run in runs)}; analyzer task=report runs=[{names}] reports on them"
    return "; ".join(text for text in (hint, told if runs else "") if text)


def _planned(settings: Settings) -> list[tuple[ModelChoice, CaptureSettings]]:
    """Return what is to be run: each model in each way; a CNN has no attention to choose and runs once for all of those.

    Raises:
        ConfigError: more runs than one report takes.
    """
    planned: dict[tuple[int, CaptureSettings], tuple[ModelChoice, CaptureSettings]] = {}
    for number, choice in enumerate(settings.models):
        for way in (settings.capture, *settings.variants):
            own = replace(way, command=_own_command(way, settings)) if settings.variants else way
            same = replace(way, attention="auto") if choice.family == "cnn" else way
            planned.setdefault((number, same), (choice, own))
    if len(planned) > MAX_RUNS:
        raise ConfigError(
            f"these lists make {len(planned)} runs, a report takes up to {MAX_RUNS}",
            "give fewer values or models, or sweep: -m and the values without brackets",
        )
    return list(planned.values())


def _merged(planned: list[tuple[ModelChoice, CaptureSettings]]) -> list[tuple[ModelChoice, CaptureSettings]]:
    """Return ``planned`` without what is the same on the device in use, where cuDNN's search means nothing on a CPU.

    Raises:
        AnalyzerError: a value that cannot be meant or met.
    """
    from analyzer.capture import presets

    kept: list[tuple[ModelChoice, CaptureSettings]] = []
    seen: list[tuple[ModelChoice, presets.Resolved, str]] = []
    for choice, capture in planned:
        way = (choice, replace(presets.resolve(capture, choice.family), notes=()), capture.counters)
        if way not in seen:
            seen.append(way)
            kept.append((choice, capture))
    return kept


def _lists(settings: Settings) -> list[str]:
    """Return the names of the settings that were given as lists."""
    ways = (settings.capture, *settings.variants)
    return [f.name for f in fields(settings.capture) if len({getattr(way, f.name) for way in ways}) > 1]


def _own_words(way: CaptureSettings, settings: Settings) -> list[str]:
    """Return the settings in which ``way`` differs from the others, as the command line has them."""
    return [f"{name}={_word(getattr(way, name))}" for name in _lists(settings)]


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def _own_command(way: CaptureSettings, settings: Settings) -> tuple[str, ...]:
    """Return the command that records ``way`` alone: each list gives way to its own value."""
    own = dict(zip(_lists(settings), _own_words(way, settings), strict=True))
    return tuple(own.get(word.partition("=")[0], word) for word in way.command)


def report(settings: Settings, reporter: Reporter) -> Outcome:
    """Write a report from run directories or bare traces; from files of counters alone, the page of ``task=validate``."""
    runs = expand_runs(settings.runs)
    tables = [run for run in runs if is_counter_file(run)]
    if tables and len(tables) == len(runs):
        return validate(settings, reporter)
    _check_counters(runs, tables, settings)
    if len(runs) > MAX_RUNS and settings.selection.rank is None:
        raise _too_many(len(runs))
    sheet = own_sheet(settings)
    if settings.dry_run:
        return Outcome([f"would report on: {', '.join(map(str, runs))}"], {"runs": [str(r) for r in runs]})
    with report_directory(settings, "-".join(short_name(r) for r in runs[:2])) as directory:
        study = _write_report(runs, settings, sheet, directory, reporter)
    return _report_outcome(study, directory, [])


def _check_counters(runs: list[Path], tables: list[Path], settings: Settings) -> None:
    """Check that files of counters are not taken for runs, and that one named by ``counters=`` has one run to belong to."""
    if tables:
        raise ConfigError(
            f"runs= names traces and {tables[0].name}, a file of counters",
            f"the counters of one trace: runs=TRACE counters={tables[0].name}",
        )
    if settings.counter_file is not None and len(runs) != 1:
        raise ConfigError(
            f"counters={settings.counter_file.name} belongs to one run, and runs= names {len(runs)}",
            "give one run, or lay each file beside its trace as NAME.counters.csv (counters.csv in a run directory)",
        )


def _too_many(count: int) -> ConfigError:
    return ConfigError(
        f"runs= names {count} runs, a report takes up to {MAX_RUNS}", "give two to have them compared: runs=[A,B]"
    )


def _write_report(
    runs: list[Path], settings: Settings, sheet: GpuSheet | None, directory: NewDirectory, reporter: Reporter
) -> Study:
    from analyzer.trace.reading import reading_ahead
    from analyzer.trace.rundir import trace_file

    selection = settings.selection
    with reporter.stage("analyse", len(runs)) as stage, ExitStack() as reading:
        ahead = [reading.enter_context(reading_ahead(trace_file(run), selection.max_expansion)) for run in runs[:_AHEAD]]
        if any(ahead):
            import_module("analyzer.report.render")
        from analyzer.analysis import analyze, compare
        from analyzer.trace.ranks import OtherRankError

        analyses = []
        other: OtherRankError | None = None
        for run, begun in zip_longest(runs, ahead):
            try:
                analyses.append(analyze(run, selection, begun, sheet, settings.counter_file))
            except OtherRankError as error:
                other = error
                reporter.say(f"left out: {error.message}")
            stage.advance()
        if other is not None and not analyses:
            raise other
        if len(analyses) > MAX_RUNS:
            raise _too_many(len(analyses))
    with reporter.stage("write report"):
        from analyzer.report.render import write_report

        result = compare(*analyses)
        write_report(result, directory.path, settings.capture.command)
    return result


def _report_outcome(study: Study, directory: NewDirectory, recorded: list[Path]) -> Outcome:
    from analyzer.format import size
    from analyzer.report.files import summary

    page = (directory.final or directory.path) / "index.html"
    verdict = study.verdict
    lines = ["", verdict.headline, verdict.reason]
    lines += _counter_lines(study)
    lines += [f"Not measured: {line}" for line in verdict.not_measured]
    lines += [f"Report: {page} ({size(page.stat().st_size)})"]
    lines += [f"Trace: {run}" for run in recorded]
    lines += [_next_command(recorded)]
    return Outcome(lines, summary(study), verdict.not_measured)


def _counter_lines(study: Study) -> list[str]:
    """Return a line per run that has hardware counters."""
    from analyzer.insight.counters import counter_line, has_counters

    several = len(study.analyses) > 1
    return [f"Counters{f' of {a.label}' if several else ''}: {counter_line(a)}" for a in study.analyses if has_counters(a)]


def _next_command(recorded: list[Path]) -> str:
    if not recorded:
        return "Next: open the report in a browser; `analyzer --help` for more"
    runs = ",".join(str(r) for r in recorded)
    return f"Next: analyzer task=report runs=[{runs}]   (the same report again, without running the models)"
