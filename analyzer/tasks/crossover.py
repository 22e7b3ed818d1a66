"""``task=crossover`` and the end of every sweep: one page from many points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import AnalyzerError, ConfigError
from analyzer.progress import Reporter
from analyzer.schema.settings import Settings
from analyzer.tasks.inputs import matching, report_directory
from analyzer.tasks.outcome import Outcome

if TYPE_CHECKING:
    from analyzer.insight.crossover.reading import Found, Source
    from analyzer.insight.crossover.result import Crossover
    from analyzer.schema.sweep import Point
    from analyzer.trace.rundir import NewDirectory

_TELL_EVERY = 25
"""Points after which a line says how far it is, where there is no bar."""
_RUNS_HINT = "give a directory of a sweep, its points/*.json, or run directories: runs=traces/sweeps/X"


def crossover(settings: Settings, reporter: Reporter) -> Outcome:
    """Write a crossover report from sweep directories, records of points or run directories.

    Raises:
        ConfigError: nothing was given, or a glob matches nothing.
        TraceError: what was given holds no points.
    """
    return _write(settings, _expand(settings.runs), reporter)


def write_crossover(settings: Settings, sweep_dir: Path, reporter: Reporter) -> Outcome:
    """Write the crossover report of one sweep, whatever ``runs=`` says; the last step of a sweep.

    Raises:
        TraceError: ``sweep_dir`` has no manifest, or a damaged one.
    """
    return _write(settings, [sweep_dir], reporter)


def _expand(given: tuple[str, ...]) -> list[Path]:
    if not given:
        raise ConfigError("runs= is missing", _RUNS_HINT)
    return matching(given, lambda found: [path for path in found if _is_source(path)], "sweep, point or run")


def _is_source(path: Path) -> bool:
    from analyzer.insight.crossover.reading import is_record, is_sweep
    from analyzer.schema.sweep import POINTS

    return is_sweep(path) or is_record(path) or (path / "run.json").is_file() or (path.is_dir() and path.name == POINTS)


def _write(settings: Settings, paths: list[Path], reporter: Reporter) -> Outcome:
    from analyzer.insight.crossover.reading import read_points

    found = read_points(paths)
    price = settings.price if settings.price is not None else found.price
    if settings.dry_run:
        points = [s.record.setting for s in found.sources]
        lines = [f"would report on {len(points)} points, {len(found.missing)} without a record"]
        return Outcome(lines, {"points": len(points), "missing": list(found.missing)})
    from analyzer.report.crossover.files import is_crossover_report

    def is_ours(directory: Path) -> bool:
        return is_crossover_report([entry.name for entry in directory.iterdir()])

    with report_directory(settings, f"crossover-{found.name}".rstrip("-"), is_ours) as directory:
        result = _analyse(found, price, reporter)
        with reporter.stage("write report"):
            from analyzer.report.crossover.page import write_crossover_report

            document = write_crossover_report(result, directory.path, settings.capture.command)
    return _outcome(document, directory)


def _analyse(found: Found, price: float | None, reporter: Reporter) -> Crossover:
    """Return what the points show. Runs are analysed one after the other, and only their figures are kept."""
    with reporter.stage("analyse points", len(found.sources)) as stage:
        from analyzer.insight.crossover.result import crossover as compute
        from analyzer.schema.sweep import Sweep

        points = []
        for point in _points(found.sources, price, reporter):
            points.append(point)
            stage.advance()
            if len(points) % _TELL_EVERY == 0 and not reporter.console.is_terminal:
                reporter.say(f"  {len(points)} of {len(found.sources)} points analysed")
        stage.note = f"{len(points)} points"
        return compute(Sweep(found.name, tuple(points), found.missing, price))


def _points(sources: tuple[Source, ...], price: float | None, reporter: Reporter) -> Iterator[Point]:
    """Yield the points with their figures; a run that cannot be read is a point that says why."""
    from analyzer.analysis import digests
    from analyzer.insight.crossover.figures import point_figures
    from analyzer.schema.sweep import Point

    for source in sources:
        if source.run is None:
            yield Point(source.record, None, source.problem)
            continue
        try:
            figures = [point_figures(d, price) for d in digests([source.run])]
        except (AnalyzerError, OSError) as error:
            text = error.message if isinstance(error, AnalyzerError) else (error.strerror or "cannot be read")
            problem = text.replace(str(source.run), source.run.name)
            reporter.say(f"  {source.run.name} has no figures: {problem}")
            yield Point(source.record, None, problem)
            continue
        yield Point(source.record, figures[0])


def _outcome(document: dict[str, object], directory: NewDirectory) -> Outcome:
    from analyzer.format import size

    page = (directory.final or directory.path) / "index.html"
    missing = tuple(str(text) for text in document["not_measured"])  # type: ignore[attr-defined]
    lines = ["", str(document["headline"]), str(document["reason"])]
    lines += [f"Not measured: {line}" for line in missing]
    lines += [f"Report: {page} ({size(page.stat().st_size)})"]
    lines += ["Next: open the report in a browser; points.csv beside it has every point"]
    return Outcome(lines, document, missing)
