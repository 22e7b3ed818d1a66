"""``task=tensorboard``: a log directory for TensorBoard, with the traces for its profiler plugin and our figures as scalars."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from analyzer.errors import ConfigError
from analyzer.progress import Reporter
from analyzer.schema.settings import Settings
from analyzer.tasks.inputs import expand_runs, is_counter_file, report_directory
from analyzer.tasks.outcome import Outcome

if TYPE_CHECKING:
    from analyzer.report.tensorboard import LogRun, Profile

_MUCH_BYTES = 2 << 30
_ONLINE = "The plugin's page loads its charts from www.gstatic.com: without internet its tables and charts stay empty."


def tensorboard(settings: Settings, reporter: Reporter) -> Outcome:
    """Write a log directory that TensorBoard and its profiler plugin open."""
    runs = expand_runs(settings.runs)
    for run in runs:
        if is_counter_file(run):
            raise ConfigError(f"{run.name} is a file of counters, no run or trace", "give runs and traces alone with runs=")
    if settings.dry_run:
        return Outcome([f"would write a log directory from: {', '.join(map(str, runs))}"], {"runs": [str(r) for r in runs]})
    from analyzer.report.tensorboard import is_logdir, write_logdir

    stage = reporter.stage("write log directory", len(runs))
    with report_directory(settings, "tensorboard", is_logdir) as directory, stage as bar:
        found = write_logdir(runs, directory.path, bar.advance, settings.selection)
    final = directory.final or directory.path
    return Outcome(_lines(found, final), _document(found, final))


def _lines(found: list[LogRun], final: Path) -> list[str]:
    from analyzer.format import count, counted, milliseconds, size

    def told(run: LogRun, profile: Profile) -> str:
        view = profile.view
        if view is None:
            return f"{profile.worker}: not in the profiler plugin: {profile.reason}; its figures are under Scalars and Text"
        kernels = (
            f"{counted(view.kernels, 'kernel', 'kernels')} ({milliseconds(view.kernel_us)})" if view.kernels else "no kernels"
        )
        rest = f"; {profile.reason}" if profile.reason else ""
        return (
            f"{profile.worker}: {kernels}, {counted(view.operators, 'operator', 'operators')} as the plugin reads them; "
            f"{count(len(run.tags))} figures as scalars{rest}"
        )

    lines = [told(run, profile) for run in found for profile in run.profiles]
    memory = sum(p.memory_bytes for run in found for p in run.profiles if p.view is not None)
    if memory > _MUCH_BYTES:
        lines.append(f"Memory: the plugin reads all traces at once and will take about {size(memory)}")
    lines += (
        [f"Log directory: {final}", _ONLINE]
        if any(p.view for run in found for p in run.profiles)
        else [f"Log directory: {final}"]
    )
    return [*lines, f"Next: tensorboard --logdir {quote(str(final))}"]


def _document(found: list[LogRun], final: Path) -> dict[str, object]:
    workers = [p.worker for run in found for p in run.profiles if p.view is not None]
    return {"logdir": str(final), "workers": workers, "runs": [asdict(run) for run in found]}
