"""``task=gate``: new runs against a baseline; exit code 4 where something became slower."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import EXIT_GATE, ConfigError
from analyzer.progress import Reporter
from analyzer.schema.settings import Settings
from analyzer.tasks.inputs import expand_runs, report_directory
from analyzer.tasks.outcome import Outcome

if TYPE_CHECKING:
    from analyzer.schema.gate import Gate, GateModel, GateRow, GateRun, GateState
    from analyzer.trace.rundir import NewDirectory

_MAX_LINES = 12
"""Changes, and things that cannot be told, that the terminal lists; the files have all."""


def gate(settings: Settings, reporter: Reporter) -> Outcome:
    """Hold the runs of ``runs=`` against those of ``baseline=`` and write what came of it.

    Raises:
        ConfigError: a side is missing, or no model of the baseline has a new run.
        TraceError: a run is not there, or is no trace.
    """
    if not settings.baseline:
        raise ConfigError("baseline= is missing", "name the runs to hold new ones against: runs=traces/new baseline=traces/old")
    new, old = (_distinct(expand_runs(given)) for given in (settings.runs, settings.baseline))
    if settings.dry_run:
        lines = [f"would hold {_listed(new)} against {_listed(old)}; a change below {settings.min_effect_pct:g} % is none"]
        return Outcome(lines, {"runs": list(map(str, new)), "baseline": list(map(str, old))})
    with report_directory(settings, "gate", _is_gate) as directory:
        with reporter.stage("analyse", len(old) + len(new)) as stage:
            found: list[list[GateRun]] = [[], []]
            for side, paths in zip(found, (old, new), strict=True):
                for path in paths:
                    side.append(_read(path, settings))
                    stage.advance()
        with reporter.stage("decide"):
            from analyzer.insight.gate import hold_against
            from analyzer.report.gate_files import write_gate_files

            result = hold_against(found[1], found[0], settings.min_effect_pct)
            document = write_gate_files(result, directory.path)
    return _outcome(result, document, directory)


def _distinct(paths: list[Path]) -> list[Path]:
    """Return ``paths`` with each run once: the same run twice is no repeat."""
    return list({path.resolve(): path for path in paths}.values())


def _listed(paths: list[Path]) -> str:
    return ", ".join(map(str, paths))


def _read(path: Path, settings: Settings) -> GateRun:
    """Return what the gate needs of one run; the rest of its analysis is let go."""
    from analyzer.analysis import digests
    from analyzer.insight.gate import gate_run

    return next(gate_run(run) for run in digests([path], settings.selection))


def _is_gate(directory: Path) -> bool:
    from analyzer.report.gate_files import is_gate

    return is_gate(entry.name for entry in directory.iterdir())


def _outcome(result: Gate, document: dict[str, object], directory: NewDirectory) -> Outcome:
    from analyzer.report.gate_files import JUNIT, MARKDOWN

    where = directory.final or directory.path
    lines = ["", _plain(result.headline), _plain(result.reason)] if result.reason else ["", _plain(result.headline)]
    lines += _changes(result, "regression", "Slower") + _changes(result, "improved", "Faster")
    lines += _limited([_plain(text) for text in result.not_told])
    lines += [_plain(f"No baseline: {name}") for name in result.extra[:_MAX_LINES]]
    lines += _limited([_plain(f"Note: {model.label}: {text}") for model in result.models for text in model.warnings])
    lines += [f"Report: {where / MARKDOWN}, {where / JUNIT}"]
    if result.not_told and not result.failed:
        lines += ["Next: record both sides again with more runs, repeats= or iterations=; docs/gate.md says what it takes"]
    return Outcome(lines, document, result.not_told, EXIT_GATE if result.failed else 0)


def _changes(result: Gate, state: GateState, word: str) -> list[str]:
    from analyzer.insight.gate.verdict import about, changed

    lines = []
    for model, row in result.rows(state):
        lines.append(_plain(f"{word}: {about(result.models, model)}{changed(row)}"))
        if row.by == "kind" or not _any_kind(model, state):
            lines += _operators(row)
    return _limited(lines)


def _any_kind(model: GateModel, state: GateState) -> bool:
    return any(row.state == state and row.by == "kind" for row in model.rows)


def _operators(row: GateRow) -> list[str]:
    from analyzer.format import milliseconds
    from analyzer.insight.gate.verdict import operator_name

    return [
        _plain(f"  {operator_name(found)}: {milliseconds(found.old_us)} before, {milliseconds(found.new_us)} now", indent="  ")
        for found in row.responsible
    ]


def _limited(lines: list[str]) -> list[str]:
    more = len(lines) - _MAX_LINES
    return lines if more <= 0 else [*lines[:_MAX_LINES], f"  and {more} more lines like these; summary.json has all"]


def _plain(text: str, indent: str = "") -> str:
    from analyzer.report.text import clean

    return indent + clean(text, 400)
