"""``task=profile`` and ``task=report``: run the models where asked for, then write one report on the runs."""

from __future__ import annotations

from contextlib import ExitStack
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import ConfigError
from analyzer.progress import Reporter
from analyzer.schema.settings import Settings
from analyzer.tasks.inputs import expand_runs, own_sheet, plan_lines, report_directory, short_name
from analyzer.tasks.outcome import Outcome

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
    sheet = own_sheet(settings)
    from analyzer.capture import session

    if settings.dry_run:
        plans = [session.plan(choice, settings.capture) for choice in settings.models]
        return Outcome(plan_lines(plans), {"plan": plans})
    with report_directory(settings, "-".join(choice.name for choice in settings.models)) as directory:
        runs = [session.capture(choice, settings.capture, reporter) for choice in settings.models]
        study = _write_report(runs, settings, sheet, directory, reporter)
    return _report_outcome(study, directory, runs)


def report(settings: Settings, reporter: Reporter) -> Outcome:
    """Write a report from run directories or bare traces."""
    runs = expand_runs(settings.runs)
    if len(runs) > MAX_RUNS and settings.selection.rank is None:
        raise _too_many(len(runs))
    sheet = own_sheet(settings)
    if settings.dry_run:
        return Outcome([f"would report on: {', '.join(map(str, runs))}"], {"runs": [str(r) for r in runs]})
    with report_directory(settings, "-".join(short_name(r) for r in runs[:2])) as directory:
        study = _write_report(runs, settings, sheet, directory, reporter)
    return _report_outcome(study, directory, [])


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
                analyses.append(analyze(run, selection, begun, sheet))
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
    lines += [f"Not measured: {line}" for line in verdict.not_measured]
    lines += [f"Report: {page} ({size(page.stat().st_size)})"]
    lines += [f"Trace: {run}" for run in recorded]
    lines += [_next_command(recorded)]
    return Outcome(lines, summary(study), verdict.not_measured)


def _next_command(recorded: list[Path]) -> str:
    if not recorded:
        return "Next: open the report in a browser; `analyzer --help` for more"
    runs = ",".join(str(r) for r in recorded)
    return f"Next: analyzer task=report runs=[{runs}]   (the same report again, without running the models)"
