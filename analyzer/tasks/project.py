"""``task=project``: what runs would take on other GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.progress import Reporter
from analyzer.schema.settings import Settings
from analyzer.tasks.inputs import expand_runs, own_sheet, report_directory, short_name
from analyzer.tasks.outcome import Outcome

if TYPE_CHECKING:
    from analyzer.schema.projection import Projection
    from analyzer.trace.rundir import NewDirectory

MAX_LINES = 6
"""Classes that the terminal lists for each target; the page has all."""


def project(settings: Settings, reporter: Reporter) -> Outcome:
    """Say what runs would take on the GPUs that ``onto=`` names, class by class, and write the report."""
    runs = expand_runs(settings.runs)
    sheet = own_sheet(settings)
    from analyzer.insight.projection.targets import find_targets

    targets = find_targets(settings.onto, sheet)
    if settings.dry_run:
        names = [target.name for target in targets]
        line = f"would project {', '.join(map(str, runs))} onto {', '.join(names)}"
        return Outcome([line], {"plan": {"runs": [str(run) for run in runs], "onto": names}})
    name = f"project-{short_name(runs[0])}-{targets[0].key}"
    with report_directory(settings, name, _is_ours) as directory:
        from analyzer.analysis import analyze
        from analyzer.insight.projection.calibration import shipped
        from analyzer.insight.projection.project import project as onto
        from analyzer.insight.projection.scores import scores
        from analyzer.insight.projection.targets import describe
        from analyzer.schema.projection import Projection

        calibration, found = shipped(), []
        with reporter.stage("project", len(runs)) as stage:
            for run in runs:  # one analysis in memory at a time
                found.append(onto(analyze(run, settings.selection, sheet=sheet), targets, calibration, sheet))
                stage.advance()
        described = tuple(describe(target, calibration) for target in targets)
        sources = tuple(calibration.source.items())
        projection = Projection(tuple(found), described, scores(), sources, settings.capture.command)
        with reporter.stage("write report"):
            from analyzer.report.projection.page import write_projection

            write_projection(projection, directory.path)
    return _outcome(projection, directory)


def _outcome(projection: Projection, directory: NewDirectory) -> Outcome:
    from analyzer.format import size
    from analyzer.insight.projection.words import class_line, headline, whole
    from analyzer.report.projection.files import summary
    from analyzer.schema.projection import VALIDATED

    lines, missing = [""], []
    for run in projection.runs:
        for total in run.totals:
            lines += [headline(run, total), *(text for text in (whole(run, total),) if text)]
            if total.same:
                continue
            lines += [f"  {class_line(found)}" for found in total.classes[:MAX_LINES]]
            if len(total.classes) > MAX_LINES:
                lines.append(f"  and {len(total.classes) - MAX_LINES} more, see the page")
            lines += [f"  Note: {note}" for note in total.notes]
            missing += [
                f"{found.title} on {total.target.name}: {found.status}, {found.why}"
                for found in total.classes
                if found.status != VALIDATED
            ]
    page = (directory.final or directory.path) / "index.html"
    lines += [
        f"Report: {page} ({size(page.stat().st_size)})",
        "Next: open the report; its last section says how far to trust it",
    ]
    return Outcome(lines, summary(projection), tuple(missing))


def _is_ours(directory: Path) -> bool:
    from analyzer.report.projection.files import FILES

    found = {entry.name for entry in directory.iterdir()}
    return {"index.html", "projection.csv"} <= found <= {"index.html", *FILES}
