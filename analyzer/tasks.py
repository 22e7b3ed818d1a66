"""The verbs of the command line, one function each. Heavy imports happen inside, so that ``--help`` stays fast."""

from __future__ import annotations

import datetime
import glob
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzer.errors import ConfigError
from analyzer.progress import Reporter
from analyzer.schema.run import shown_name
from analyzer.schema.settings import Settings

if TYPE_CHECKING:
    from analyzer.hardware.sheet import GpuSheet
    from analyzer.report.access_files import AccessReport
    from analyzer.schema.results import Study
    from analyzer.trace.rundir import NewDirectory

MAX_RUNS = 6
_AHEAD = 2
"""Traces that other processes begin to read while this one imports what draws."""

REPORT_FILES = {
    "index.html",
    "summary.json",
    "kernels.csv",
    "operators.csv",
    "modules.csv",
    "ledger.csv",
    "access.csv",
    "operator_tree.csv",
    "module_tree.csv",
    "launches.csv.gz",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task ends with: its last lines, its JSON, and what it could not measure."""

    lines: list[str]
    document: dict[str, Any]
    not_measured: tuple[str, ...] = field(default=())


def run(settings: Settings, reporter: Reporter) -> Outcome:
    """Run the task that ``settings`` names.

    Raises:
        ConfigError: runs=, gpu_spec= or gpu= was given to a task that takes none.
    """
    if settings.runs and settings.task not in TAKES_RUNS:
        hint = f"runs= belongs to {' and '.join(f'task={name}' for name in TAKES_RUNS)}"
        raise ConfigError(f"task={settings.task} takes no runs=", hint)
    if settings.gpu_spec and settings.task not in TAKES_GPU_SPEC:
        hint = f"gpu_spec= belongs to {' and '.join(f'task={name}' for name in TAKES_GPU_SPEC)}"
        raise ConfigError(f"task={settings.task} takes no gpu_spec=", hint)
    if settings.gpus and settings.task not in TAKES_GPU:
        hint = f"gpu= belongs to {' and '.join(f'task={name}' for name in TAKES_GPU)}; device= says where a model runs"
        raise ConfigError(f"task={settings.task} takes no gpu=", hint)
    return TASKS[settings.task](settings, reporter)


def profile(settings: Settings, reporter: Reporter) -> Outcome:
    """Run the models, write their run directories, then the report."""
    if not settings.models:
        raise ConfigError("vit=none and cnn=none leave nothing to run", "choose a model, for example vit=vit_tiny_patch16_224")
    sheet = _own_sheet(settings)
    from analyzer.capture import session

    if settings.dry_run:
        plans = [session.plan(choice, settings.capture) for choice in settings.models]
        return Outcome(_plan_lines(plans), {"plan": plans})
    with _report_directory(settings, "-".join(choice.name for choice in settings.models)) as directory:
        runs = [session.capture(choice, settings.capture, reporter) for choice in settings.models]
        study = _write_report(runs, settings, sheet, directory, reporter)
    return _report_outcome(study, directory, runs)


def report(settings: Settings, reporter: Reporter) -> Outcome:
    """Write a report from run directories or bare traces."""
    runs = expand_runs(settings.runs)
    if len(runs) > MAX_RUNS and settings.selection.rank is None:
        raise _too_many(len(runs))
    sheet = _own_sheet(settings)
    if settings.dry_run:
        return Outcome([f"would report on: {', '.join(map(str, runs))}"], {"runs": [str(r) for r in runs]})
    with _report_directory(settings, "-".join(_short_name(r) for r in runs[:2])) as directory:
        study = _write_report(runs, settings, sheet, directory, reporter)
    return _report_outcome(study, directory, [])


def calibrate(settings: Settings, reporter: Reporter) -> Outcome:
    """Measure the ceilings of the device and put them into the cache."""
    from analyzer.capture.calibrate import calibrate as measure
    from analyzer.capture.environment import device_facts, versions
    from analyzer.capture.presets import resolve
    from analyzer.format import digits

    resolved = resolve(settings.capture)
    if settings.dry_run:
        return Outcome([f"would measure copy bandwidth and matmul rate of {resolved.device} for {resolved.dtype}"], {})
    with reporter.stage(f"calibrate {resolved.device}") as stage:
        found = measure(resolved, device_facts(resolved.device), versions())
        stage.note = found.origin
    lines = [
        f"{c.name}: {digits(c.value)} {c.unit} ({digits(c.low)} to {digits(c.high)}, n={c.n}; {c.dtype}; {c.size})"
        for c in found.found
    ]
    document = [{"name": c.name, "value": c.value, "low": c.low, "high": c.high, "unit": c.unit, "n": c.n} for c in found.found]
    return Outcome([*lines, *found.warnings], {"ceilings": document})


def doctor(settings: Settings, reporter: Reporter) -> Outcome:
    """Say what can be measured on this machine, and what is in the way of the rest."""
    from analyzer.capture.doctor import examine

    with reporter.stage("look at this machine"):
        checks = examine(settings.capture)
    lines = [f"{'yes' if c.available else 'no ':3}  {c.name}: {c.detail}" for c in checks]
    document = {"checks": [{"name": c.name, "available": c.available, "detail": c.detail} for c in checks]}
    return Outcome(lines, document, tuple(f"{c.name}: {c.detail}" for c in checks if not c.available))


def tensorboard(settings: Settings, reporter: Reporter) -> Outcome:
    """Write a log directory that TensorBoard's profiler plugin opens."""
    from analyzer.report.tensorboard import is_logdir, write_logdir

    runs = expand_runs(settings.runs)
    if settings.dry_run:
        return Outcome([f"would write a log directory from: {', '.join(map(str, runs))}"], {"runs": [str(r) for r in runs]})
    stage = reporter.stage("write log directory", len(runs))
    with _report_directory(settings, "tensorboard", is_logdir) as directory, stage as bar:
        found = write_logdir(runs, directory.path, bar.advance)
    final = directory.final
    lines = [f"{f.worker}: {f.kernels} kernels, {f.operators} operators as the plugin reads them" for f in found]
    lines += [f"Log directory: {final}", f"Next: tensorboard --logdir {final}"]
    return Outcome(lines, {"logdir": str(final), "workers": [f.worker for f in found]})


def access(settings: Settings, reporter: Reporter) -> Outcome:
    """Say from shapes alone what models do to the caches of GPUs: no GPU, no trace, nothing is run."""
    if not settings.models:
        raise ConfigError(
            "vit=none and cnn=none leave nothing to look at", "choose a model, for example vit=vit_tiny_patch16_224"
        )
    from analyzer import layers

    gpus = layers.targets(settings.gpus, _own_sheet(settings))
    batch, pixels, dtype = _access_input(settings)
    if settings.dry_run:
        labels, names = [m.label for m in settings.models], [gpu.sheet.name for gpu in gpus]
        plan: dict[str, object] = {"models": labels, "gpus": names, "batch_size": batch, "image_size": pixels, "dtype": dtype}
        return Outcome(["would work out, from shapes alone:", *_plan_lines([plan])], {"plan": plan})
    name = f"access-{'-'.join(choice.name for choice in settings.models)}-{pixels}"
    with _report_directory(settings, name, _is_access_report) as directory:
        results = []
        for choice in settings.models:
            with reporter.stage(f"record the layers of {choice.label}") as stage:
                from analyzer.capture.meta import record_ops

                records = record_ops(choice, batch, pixels, dtype)
                stage.note = f"{len(records)} operators"
            with reporter.stage(f"work out the access of {choice.label}") as stage:
                results.append(layers.analyze_layers(layers.Layers(choice.label, batch, pixels, dtype, records), gpus))
                stage.note = f"{sum(not p.hypothetical for p in results[-1].patterns)} distinct layers"
        with reporter.stage("write report"):
            from analyzer.report.access_files import AccessReport
            from analyzer.report.access_report import write_access_report

            caches, command = tuple(gpu.cache for gpu in gpus), settings.capture.command
            found = AccessReport(tuple(results), caches, dtype, command, layers.peaks(gpus, dtype))
            write_access_report(found, directory.path)
    return _access_outcome(found, directory)


def _access_input(settings: Settings) -> tuple[int, int, str]:
    """Return batch size, image size and dtype, with the presets of task=access."""
    from analyzer.capture.presets import dtype_name

    given = settings.capture
    return given.batch_size or 32, given.image_size or 224, dtype_name(given.dtype or "float16")


def _access_outcome(found: AccessReport, directory: NewDirectory) -> Outcome:
    from analyzer.format import size
    from analyzer.insight.locality import claim
    from analyzer.insight.moved import lines
    from analyzer.report.access_files import patterns

    page = (directory.final or directory.path) / "index.html"
    missing = tuple(f"access model of {what} in {r.model}: {why}" for r in found.results for what, why, _ in r.left_out)
    text = ["", claim(found.results).sentence, *lines(found.results, found.gpus)]
    text += [
        "Assumed: tiles and orders of blocks, because nothing was run and no kernel has a name. All bytes are modelled; the "
        "low end leaves in the cache what it may still hold of each output, the high end takes the worst plausible order."
    ]
    text += [f"Not covered: {line}" for line in missing]
    text += [f"Report: {page} ({size(page.stat().st_size)})"]
    text += [
        "Next: analyzer task=access json=true for programs, or gpu=[b200,rtx_4090] image_size=1024 for other GPUs and sizes"
    ]
    return Outcome(text, {"patterns": patterns(found)}, missing)


TASKS: dict[str, Callable[[Settings, Reporter], Outcome]] = {
    "profile": profile,
    "report": report,
    "calibrate": calibrate,
    "doctor": doctor,
    "tensorboard": tensorboard,
    "access": access,
}


TAKES_RUNS = ("report", "tensorboard")
TAKES_GPU_SPEC = ("profile", "report", "access")
TAKES_GPU = ("access",)


# --- shared pieces -------------------------------------------------------------------------------------------------------


def expand_runs(given: tuple[str, ...]) -> list[Path]:
    """Return the run directories and trace files that ``runs=`` names.

    Raises:
        ConfigError: nothing was given, or a glob matches nothing.
    """
    if not given:
        raise ConfigError("runs= is missing", "give a run directory, a trace file, a list or a glob: runs=traces/X")
    found: list[Path] = []
    for text in given:
        if not glob.has_magic(text) or Path(text).exists():
            found.append(Path(text))
            continue
        matches = sorted(Path(m) for m in glob.glob(text))  # noqa: PTH207  Path.glob takes no absolute pattern
        usable = [m for m in matches if (m / "run.json").is_file() or (m.is_file() and ".json" in m.suffixes)]
        if not usable:
            raise ConfigError(f"no run or trace matches {text}", "run `analyzer` to record one")
        found += usable
    return found


def _too_many(count: int) -> ConfigError:
    return ConfigError(
        f"runs= names {count} runs, a report takes up to {MAX_RUNS}", "give two to have them compared: runs=[A,B]"
    )


def _is_report(directory: Path) -> bool:
    """Tell whether ``directory`` holds a report and nothing else; one of an earlier version has fewer files."""
    found = {entry.name for entry in directory.iterdir()}
    return {"index.html", "summary.json"} <= found <= REPORT_FILES


def _is_access_report(directory: Path) -> bool:
    from analyzer.report.access_files import is_access_report

    return is_access_report([entry.name for entry in directory.iterdir()])


def _short_name(run: Path) -> str:
    return shown_name(run.name).split(".")[0][:60]


def _report_directory(
    settings: Settings, name: str, is_ours: Callable[[Path], bool] | None = None
) -> AbstractContextManager[NewDirectory]:
    from analyzer.trace.rundir import exact_directory, new_directory

    if settings.out is not None:
        return exact_directory(settings.out, is_ours or _is_report)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return new_directory(settings.reports, f"{stamp}-{name}")


def _own_sheet(settings: Settings) -> GpuSheet | None:
    if settings.gpu_spec is None:
        return None
    from analyzer.hardware.sheet_file import read_sheet

    return read_sheet(settings.gpu_spec)


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


def _plan_lines(plans: list[dict[str, object]]) -> list[str]:
    lines = []
    for plan in plans:
        lines += [f"{key + ':':12} {_readable(value)}" for key, value in plan.items() if value not in ([], None)] + [""]
    return lines[:-1]


def _readable(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {what}" for key, what in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
