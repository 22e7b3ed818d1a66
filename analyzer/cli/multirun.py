"""Sweeps (``-m``): what Hydra is told before the first job, and what happens in a job and after the last one.

A sweep of ``task=profile`` keeps a directory below ``<traces>/sweeps`` and ends with one crossover report. Jobs of other tasks
write a report each; Hydra's own files go to a directory that is removed.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from analyzer.capture.points import PointPlan, PointStore
from analyzer.capture.privacy import masked_text
from analyzer.cli.failures import report_failure
from analyzer.cli.output import as_error, show
from analyzer.cli.reading import read_settings
from analyzer.errors import EXIT_FAILED, AnalyzerError, ConfigError
from analyzer.progress import Reporter
from analyzer.schema.settings import Settings
from analyzer.schema.sweep import MANIFEST_FILE, JobFile
from analyzer.tasks import sweep
from analyzer.tasks.outcome import Outcome
from analyzer.tasks.watch import Watch

SCRATCH = "ANALYZER_SWEEP_DIR"
_PRIVATE = ("out", "traces", "reports", "runs", "baseline")
_GROUPS = ("task", "vit", "cnn", "experiment")
wants_traceback = False
"""Whether an unforeseen error shows where it happened."""


@dataclass
class _State:
    """The sweep that this process runs; ``directory`` is None before it begins and where jobs write a report each.

    ``remote``: a launcher sends the jobs to other processes; ``watch`` tells then how far they are.
    """

    directory: Path | None = None
    settings: Settings | None = None
    remote: bool = False
    watch: Watch | None = None
    progress: sweep.Progress = field(default_factory=sweep.Progress)


_state = _State()


class SweepCallback(Callback):
    """Hydra calls it before the first job of a sweep. Without state, since launchers send it to other processes."""

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        """Prepare the sweep. Hydra turns an error here into a warning and goes on, so every error ends the process."""
        try:
            _begin(config)
        except Exception as error:
            if _state.directory is not None:
                shutil.rmtree(_state.directory, ignore_errors=True)
            raise SystemExit(_fatal(error)) from error


def _fatal(error: Exception) -> int:
    if wants_traceback and not isinstance(error, AnalyzerError):
        sys.excepthook(type(error), error, error.__traceback__)
    try:
        return report_failure(as_error(error))
    except OSError:  # nobody reads what we say
        return EXIT_FAILED


def in_point_sweep() -> bool:
    """Tell whether the job that Hydra runs now belongs to a sweep that ends with one crossover report."""
    hydra = HydraConfig.get()
    return hydra.mode == RunMode.MULTIRUN and (Path(str(hydra.sweep.dir)) / MANIFEST_FILE).is_file()


def run_job(settings: Settings, reporter: Reporter) -> Outcome:
    """Settle the points of the job that Hydra runs now.

    Raises:
        AnalyzerError: the settings or the device do not allow the job at all; the directory of the sweep says so too.
    """
    hydra = HydraConfig.get()
    directory, number = Path(str(hydra.sweep.dir)), int(hydra.job.num)
    (directory / "multirun.yaml").unlink(missing_ok=True)  # Hydra's; it holds the path of the working directory
    return sweep.run_job(settings, directory, number, public(list(hydra.overrides.task)), _state.progress, reporter)


def job_failed(error: AnalyzerError) -> None:
    """Note in the directory of the sweep that the job Hydra runs now could not begin."""
    hydra = HydraConfig.get()
    directory = Path(str(hydra.sweep.dir))
    try:
        sweep.write_job(directory, int(hydra.job.num), JobFile(error=masked_text(error.message)))
    except AnalyzerError as second:
        report_failure(second)


def finish(reporter: Reporter) -> tuple[Settings, Outcome] | None:
    """Return the settings and outcome of the sweep that has ended; None where there was none to report on."""
    if _state.directory is None or _state.settings is None:
        return None
    if _state.watch is not None:
        _state.watch.stop()
    (_state.directory / "multirun.yaml").unlink(missing_ok=True)
    return _state.settings, sweep.finish(_state.settings, _state.directory, reporter, remote=_state.remote)


def interrupted() -> str:
    """Return the hint for somebody who interrupted a sweep, empty where none ran."""
    if _state.directory is None:
        return ""
    (_state.directory / "multirun.yaml").unlink(missing_ok=True)
    if _state.remote:
        gather = shlex.join(["analyzer", "task=crossover", f"runs={_state.directory}"])
        return f"jobs that were submitted run on (scancel ends those of Slurm); the report, once they are done: {gather}"
    progress = _state.progress
    done = f"{progress.done} of {len(progress.keys)} points are done" if progress.keys else "points that are done stay"
    return f"{done}; the same command goes on from there: {shlex.join(['analyzer', *sys.argv[1:]])}"


def public(overrides: list[str]) -> list[str]:
    """Return ``overrides`` without those that name places on this machine."""
    kept = [o for o in overrides if o.lstrip("+~").split("=", 1)[0] not in _PRIVATE and not o.startswith("hydra")]
    return [f"{o.split('=', 1)[0]}=<path>" if "/" in o or "=~" in o or o.startswith("gpu_spec=") else o for o in kept]


def _begin(config: DictConfig) -> None:
    jobs = _jobs(config)
    launcher = str(config.hydra.launcher._target_).rpartition(".")[2]
    remote = launcher != "BasicLauncher"
    if jobs is None or any(_task(config, job) != "profile" for job in jobs):
        if remote:
            what = f"{launcher} sends jobs to other processes, and only sweeps of task=profile bring back what came of them"
            raise ConfigError(what, "leave hydra/launcher= away, or run each job by itself")
        _set_directory(config, os.environ.get(SCRATCH, "."))
        return
    found, problems = _read_jobs(config, jobs)
    first = _common(list(found.values()), problems)
    reporter, plans = Reporter(), []
    if not remote or first.dry_run:
        plans = _plan(jobs, found, problems)
    if not found:
        raise problems[0].error
    if first.dry_run:
        outcome = sweep.dry_run(plans, first.resume, problems, reporter)
        document = json.dumps(outcome.document, indent=2, ensure_ascii=False)
        show(document if first.json else "\n".join(outcome.lines))
        raise SystemExit(outcome.exit_code)
    sweep.check_report(first)
    if remote:
        told = sweep.tell(problems, reporter)
        reporter.say(f"{len(jobs)} jobs submitted with {launcher}{f'; {told}' if told else ''}")
    else:
        _state.progress = sweep.begin(plans, first.resume, problems, reporter)
    name = Path(str(config.hydra.sweep.dir)).name
    if experiment := config.hydra.runtime.choices.get("experiment"):
        name = f"{name}-{experiment}"
    root = (first.capture.out_root / "sweeps").absolute()  # beside the points, whatever hydra.sweep.dir says
    models = [[choice.label for choice in found[n].models] if n in found else [] for n in range(len(jobs))]
    _state.directory = sweep.new_sweep(root, name, [public(job) for job in jobs], models, first.price)
    _state.settings, _state.remote = first, remote
    if remote:
        _state.watch = Watch(_state.directory, PointStore(first.capture.out_root), first.resume, reporter)
        _state.watch.start()
    _set_directory(config, str(_state.directory))


def _plan(jobs: list[list[str]], found: dict[int, Settings], problems: list[sweep.Problem]) -> list[PointPlan]:
    """Return the points of all jobs. A job that has none moves from ``found`` to ``problems``."""
    plans: list[PointPlan] = []
    for number, settings in list(found.items()):
        try:
            plans += sweep.plan_job(settings)
        except AnalyzerError as error:
            problems.append(sweep.Problem(number, tuple(public(jobs[number])), error))
            del found[number]
    return plans


def _set_directory(config: DictConfig, directory: str) -> None:
    escaped = directory.replace("\\", "\\\\").replace("'", "\\'")
    with read_write(config), open_dict(config):
        config.hydra.sweep.dir = directory
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{escaped}'")  # the jobs are composed from the overrides


def _jobs(config: DictConfig) -> list[list[str]] | None:
    """Return the overrides of each job as Hydra's own sweeper makes them; None for another sweeper."""
    hydra = config.hydra
    if not str(hydra.sweeper._target_).endswith("BasicSweeper"):
        return None
    parameters = [f"{name}={value}" for name, value in (hydra.sweeper.params or {}).items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    given = parser.parse_overrides([*parameters, *hydra.overrides.task])
    if any(one.key_or_group == "experiment" and one.is_sweep_override() for one in given):
        raise ConfigError("experiment= takes one name", "run one after the other, then task=crossover with runs=[A,B]")
    batches = BasicSweeper.split_arguments(given, None)
    return [job for batch in batches for job in batch]


def _task(config: DictConfig, job: list[str]) -> str:
    named = [override.partition("=")[2] for override in job if override.startswith("task=")]
    return named[-1] if named else str(config.hydra.runtime.choices.get("task"))


def _common(settings: list[Settings], problems: list[sweep.Problem]) -> Settings:
    """Return the settings of the first job, for what is one for the whole sweep.

    Raises:
        AnalyzerError: no job can be meant, or jobs differ in what must be one.
    """
    if not settings:
        raise problems[0].error if problems else ConfigError("the sweep has no job", "give a setting several values")
    first = settings[0]
    for name in ("out", "reports", "json", "dry_run", "resume", "price", "strict"):
        if any(getattr(job, name) != getattr(first, name) for job in settings):
            raise ConfigError(f"{name}= must be one for the whole sweep", f"give {name}= one value")
    if any(job.capture.out_root != first.capture.out_root for job in settings):
        raise ConfigError("traces= must be one for the whole sweep", "give traces= one value")
    return first


def _read_jobs(config: DictConfig, jobs: list[list[str]]) -> tuple[dict[int, Settings], list[sweep.Problem]]:
    """Return the settings of the jobs that can be meant, by number, and what is wrong with the others."""
    composer = _Composer(config)
    found: dict[int, Settings] = {}
    problems = []
    for number, job in enumerate(jobs):
        try:
            composed, choices = composer.compose(job)
            settings = read_settings(composed, choices, overrides=job)
            sweep.check(settings)
            found[number] = settings
        except AnalyzerError as error:  # the others are measured all the same
            problems.append(sweep.Problem(number, tuple(public(job)), error))
    return found, problems


class _Composer:
    """Composes the jobs of a sweep, each choice of files once: Hydra takes 20 ms for one, and a grid has thousands."""

    def __init__(self, config: DictConfig) -> None:
        self._loader = GlobalHydra.instance().config_loader()
        self._config = config
        self._parser = OverridesParser.create(config_loader=self._loader)
        self._found: dict[tuple[str, ...], DictConfig] = {}

    def compose(self, job: list[str]) -> tuple[DictConfig, dict[str, str]]:
        """Return the configuration of ``job`` and the choices of files in it."""
        files = tuple(o for o in job if o.split("=", 1)[0].lstrip("+~") in _GROUPS or o.startswith(("~", "hydra")))
        if files not in self._found:
            self._found[files] = self._loader.load_sweep_config(self._config, list(files))
        composed = self._found[files]
        choices = {str(k): str(v) for k, v in composed.hydra.runtime.choices.items() if v is not None}
        settings = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        OmegaConf.set_struct(settings, True)  # a key that there is not is an error, as it is for Hydra
        with read_write(settings):
            rest = self._parser.parse_overrides([override for override in job if override not in files])
            ConfigLoaderImpl._apply_overrides_to_config(rest, settings)
        return settings, choices
