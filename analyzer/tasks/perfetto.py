"""``task=perfetto``: traces with what the analysis found written into them, for ui.perfetto.dev."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import ConfigError
from analyzer.progress import Reporter
from analyzer.schema.settings import Settings
from analyzer.tasks.inputs import expand_runs, is_counter_file, own_sheet, report_directory, short_name
from analyzer.tasks.outcome import Outcome

if TYPE_CHECKING:
    from analyzer.hardware.sheet import GpuSheet
    from analyzer.report.perfetto import Written

FORMAT_VERSION = 1
NEXT = (
    "Next: open https://ui.perfetto.dev and drag a file onto the page (it runs in the browser, so the file stays here)",
    "      click a kernel, or an operator of a CPU run; what was found stands in its arguments under analyzer",
)


def perfetto(settings: Settings, reporter: Reporter) -> Outcome:
    """Write each run's trace with its findings as arguments of the events, and tracks and counters of our own.

    Raises:
        ConfigError: ``runs=`` names nothing or files of counters, or ``counters=`` goes with several runs.
        TraceError: a run is no trace, or has no such part.
    """
    runs = expand_runs(settings.runs)
    tables = [run for run in runs if is_counter_file(run)]
    if tables:
        raise ConfigError(
            f"{tables[0].name} is a file of counters, and no trace", "give the trace, and this file with counters="
        )
    if settings.counter_file is not None and len(runs) != 1:
        raise ConfigError(f"counters= belongs to one run, and runs= names {len(runs)}", "give one run")
    sheet = own_sheet(settings)
    if settings.dry_run:
        return Outcome([f"would annotate: {', '.join(map(str, runs))}"], {"runs": [str(run) for run in runs]})
    from analyzer.report.perfetto import is_ours

    with report_directory(settings, f"perfetto-{short_name(runs[0])}", is_ours) as directory:
        found = [_write(run, name, directory.path, settings, sheet, reporter) for run, name in _named(runs)]
    final = directory.final or directory.path
    lines = [""] + [line for path, written in found for line in _lines(final / path, written)]
    missing = tuple(f"{path.name}: {what}: {why}" for path, written in found for what, why in written.missing.items())
    document = {
        "format_version": FORMAT_VERSION,
        "directory": str(final),
        "traces": [{"file": path.name, **asdict(written)} for path, written in found],
    }
    return Outcome([*lines, *NEXT], document, missing)


def _named(runs: list[Path]) -> list[tuple[Path, str]]:
    """Return each run with the name of its file; the same name given twice gets a number behind it."""
    from analyzer.trace.rundir import safe_name

    taken: dict[str, int] = {}
    out = []
    for run in runs:
        name = safe_name(short_name(run))
        taken[name] = taken.get(name, 0) + 1
        out.append((run, name if taken[name] == 1 else f"{name}-{taken[name]}"))
    return out


def _write(
    run: Path, name: str, directory: Path, settings: Settings, sheet: GpuSheet | None, reporter: Reporter
) -> tuple[Path, Written]:
    from analyzer.analysis import analyze
    from analyzer.report.perfetto import SUFFIX, write_annotated

    with reporter.stage(f"analyse {name}"):
        analysis = analyze(run, settings.selection, sheet=sheet, counters=settings.counter_file)
    with reporter.stage(f"annotate {name}", len(analysis.launches)) as stage:
        written = write_annotated(analysis, directory / f"{name}{SUFFIX}", settings.selection, sheet, stage.advance)
    return Path(f"{name}{SUFFIX}"), written


def _lines(path: Path, written: Written) -> list[str]:
    from analyzer.format import count, counted, size

    text = (
        f"{count(written.events)} events of the trace, {count(written.annotated)} with findings, {count(written.added)} added"
    )
    lines = [f"Annotated trace: {path} ({size(written.bytes)}; {text})"]
    lines += [f"  Not in it: {what}: {why}" for what, why in written.missing.items()]
    if written.left_out:
        lines.append(
            f"  Left out: {counted(written.left_out, 'event', 'events')} that cannot be read or that the format does not allow"
        )
    if written.annotated < written.launches:
        lost = written.launches - written.annotated
        lines.append(f"  Without findings: {counted(lost, 'launch', 'launches')} that could not be found again in the file")
    return lines
