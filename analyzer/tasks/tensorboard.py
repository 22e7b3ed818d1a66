"""``task=tensorboard``: a log directory for TensorBoard's profiler plugin."""

from __future__ import annotations

from analyzer.progress import Reporter
from analyzer.schema.settings import Settings
from analyzer.tasks.inputs import expand_runs, report_directory
from analyzer.tasks.outcome import Outcome


def tensorboard(settings: Settings, reporter: Reporter) -> Outcome:
    """Write a log directory that TensorBoard's profiler plugin opens."""
    from analyzer.report.tensorboard import is_logdir, write_logdir

    runs = expand_runs(settings.runs)
    if settings.dry_run:
        return Outcome([f"would write a log directory from: {', '.join(map(str, runs))}"], {"runs": [str(r) for r in runs]})
    stage = reporter.stage("write log directory", len(runs))
    with report_directory(settings, "tensorboard", is_logdir) as directory, stage as bar:
        found = write_logdir(runs, directory.path, bar.advance)
    final = directory.final
    lines = [f"{f.worker}: {f.kernels} kernels, {f.operators} operators as the plugin reads them" for f in found]
    lines += [f"Log directory: {final}", f"Next: tensorboard --logdir {final}"]
    return Outcome(lines, {"logdir": str(final), "workers": [f.worker for f in found]})
