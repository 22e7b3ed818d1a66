"""``task=compare``: any number of runs side by side, whatever their devices, models and libraries."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import AnalyzerError, ConfigError
from analyzer.progress import Reporter
from analyzer.schema.settings import Settings
from analyzer.tasks.inputs import expand_runs, own_sheet, report_directory, short_name
from analyzer.tasks.outcome import Outcome

if TYPE_CHECKING:
    from analyzer.schema.comparison import Comparison
    from analyzer.schema.digest import Digest
    from analyzer.trace.rundir import NewDirectory

LeftOut = list[tuple[Path, AnalyzerError]]


def compare(settings: Settings, reporter: Reporter) -> Outcome:
    """Compare the runs that ``runs=`` names with the one that ``baseline=`` names.

    Without a name that is the first run whose trace has shapes and steps, or else the first.

    Raises:
        ConfigError: fewer than two runs can be read, or there is no such baseline.
    """
    runs = expand_runs(settings.runs)
    runs, baseline = _with_baseline(runs, settings.baseline)
    if len(runs) < 2:
        raise ConfigError("a comparison takes at least two runs", "give more: runs=[A,B] or runs=traces/*")
    if settings.dry_run:
        named = str(runs[baseline]) if settings.baseline else None
        what = f"with {named}" if named else "with the first whose trace has shapes and steps"
        lines = [f"would compare {len(runs)} runs {what}:", *(f"  {run}" for run in runs)]
        return Outcome(lines, {"runs": [str(run) for run in runs], "baseline": named})
    with report_directory(settings, f"compare-{len(runs)}-runs", _is_comparison) as directory:
        found, left_out, baseline = _read(runs, baseline, settings, reporter)
        with reporter.stage("compare"):
            from analyzer.insight.comparison import compare_runs

            comparison = _noting(
                compare_runs(found, baseline if settings.baseline else None, settings.min_effect_pct), left_out
            )
        with reporter.stage("write report"):
            from analyzer.report.comparison import write_comparison

            write_comparison(comparison, directory.path, settings.capture.command)
    return _outcome(comparison, directory, left_out)


def _with_baseline(runs: list[Path], given: tuple[str, ...]) -> tuple[list[Path], int]:
    """Return the runs and the number of the baseline among them: named by its path or name, or a further run, put first.

    Raises:
        ConfigError: more than one is named, or no such run.
    """
    if not given:
        return runs, 0
    if len(given) > 1:
        raise ConfigError(f"baseline= names {len(given)} runs, a comparison has one", "name one: baseline=traces/X")
    path = Path(given[0])
    for number, run in enumerate(runs):
        if run.resolve() == path.resolve():
            return runs, number
    named = [number for number, run in enumerate(runs) if given[0] in (run.name, short_name(run))]
    if len(named) > 1:
        raise ConfigError(f"{len(named)} runs are called {given[0]}", "name the baseline by its path")
    if named:
        return runs, named[0]
    try:
        further = expand_runs(given) if path.exists() or any(sign in given[0] for sign in "*?[") else []
    except ConfigError as error:
        raise ConfigError(f"baseline={given[0]} matches no run", error.hint) from error
    if len(further) != 1:
        close = difflib.get_close_matches(given[0], [run.name for run in runs], 1, 0)
        what = f"baseline={given[0]} matches {len(further)} runs" if further else f"baseline={given[0]} is no run"
        raise ConfigError(what, f"name one of the runs or a further one, for example baseline={close[0]}" if close else "")
    place = next((number for number, run in enumerate(runs) if run.resolve() == further[0].resolve()), None)
    return (runs, place) if place is not None else ([further[0], *runs], 0)


def _read(runs: list[Path], baseline: int, settings: Settings, reporter: Reporter) -> tuple[list[Digest], LeftOut, int]:
    """Return what can be read, one analysis in memory at a time, what cannot, and the number of the baseline in the former.

    Raises:
        ConfigError: fewer than two runs can be read.
        AnalyzerError: the baseline that was asked for cannot be read.
    """
    sheet = own_sheet(settings)
    found: list[Digest] = []
    left_out: LeftOut = []
    place = 0
    with reporter.stage("analyse", len(runs)) as stage:
        from analyzer.analysis import digests

        for number, run in enumerate(runs):
            try:
                found.extend(digests([run], settings.selection, sheet))
            except AnalyzerError as error:
                if number == baseline and settings.baseline:
                    raise
                left_out.append((run, error))
                reporter.say(f"  left out: {error.message}")
            else:
                place = len(found) - 1 if number == baseline else place
            stage.advance()
        stage.note = f"{len(found)} of {len(runs)} runs" if left_out else f"{len(found)} runs"
    if len(found) < 2:
        reasons = "; ".join(error.message for _, error in left_out[:3])
        raise ConfigError(
            f"{len(found)} of {len(runs)} runs can be read, a comparison takes two: {reasons}", left_out[0][1].hint
        )
    return found, left_out, place


def _noting(comparison: Comparison, left_out: LeftOut) -> Comparison:
    """Return ``comparison`` with a caveat for each run that could not be read."""
    from analyzer.schema.results import Caveat

    more = tuple(Caveat("warning", f"{short_name(run)} is left out: {error.message}", "comparable") for run, error in left_out)
    return replace(comparison, caveats=(*more, *comparison.caveats))


def _outcome(comparison: Comparison, directory: NewDirectory, left_out: LeftOut) -> Outcome:
    from analyzer.format import counted, size
    from analyzer.report.comparison_files import summary
    from analyzer.report.text import clean

    page = (directory.final or directory.path) / "index.html"
    lines = ["", comparison.headline, comparison.reason]
    lines += [f"Not measured: {line}" for line in comparison.not_measured]
    if left_out:
        lines += [f"Left out: {counted(len(left_out), 'run', 'runs')} that cannot be read"]
    lines += [f"Report: {page} ({size(page.stat().st_size)})"]
    better = comparison.better_baseline
    named = "NAME" if better is None else clean(comparison.names[better])
    lines += [f"Next: open the report in a browser; baseline={named} holds the runs against another one"]
    return Outcome(lines, summary(comparison), comparison.not_measured)


def _is_comparison(directory: Path) -> bool:
    from analyzer.report.comparison_files import is_comparison

    return is_comparison(entry.name for entry in directory.iterdir())
