"""The command line: Hydra to Settings, task, exit code, final lines. Hydra is imported here and nowhere else."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import NoReturn

from hydra import main as hydra_main
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from analyzer import __version__
from analyzer.cli import multirun
from analyzer.cli.failures import config_dir, explain, fail, report_failure
from analyzer.cli.output import as_error, show, silence
from analyzer.cli.reading import read_settings
from analyzer.errors import EXIT_FAILED, EXIT_UNAVAILABLE, AnalyzerError, ConfigError
from analyzer.schema.settings import Settings
from analyzer.tasks.outcome import Outcome
from analyzer.usage import usage

_exit_code = 0
_job_began = False


def main() -> None:
    """Run the command line and exit with its code."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(usage(Path(config_dir())))
        return
    if "--version" in sys.argv[1:]:
        print(f"analyzer {__version__}")
        return
    sys.argv[1:] = map(_quote_annotation, sys.argv[1:])
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no minus sign still gets its lines
    _check_completion()
    user_wants_traceback = multirun.wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing a page; the lines below print one
    try:
        with tempfile.TemporaryDirectory(prefix="analyzer-") as scratch:
            os.environ[multirun.SCRATCH] = scratch  # Hydra writes a multirun.yaml for each sweep; nobody needs it
            _launch()
        sys.stdout.flush()
    except BrokenPipeError:
        silence()
    except KeyboardInterrupt:
        if hint := multirun.interrupted():
            print(f"hint: {hint}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except (AnalyzerError, HydraException, OmegaConfBaseException, ValueError) as error:
        if not isinstance(error, AnalyzerError) and (user_wants_traceback or _job_began):
            raise
        fail(error if isinstance(error, AnalyzerError) else explain(error))
    sys.exit(_exit_code)


def _quote_annotation(argument: str) -> str:
    """Return ``annotation=NAME`` quoted for Hydra: names hold ``#`` and brackets, which mean something in its grammar."""
    key, _, name = argument.partition("=")
    if key != "annotation" or not name or name == "null" or name[0] in "'\"":
        return argument
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"annotation='{escaped}'"


def _check_completion() -> None:
    given = set(sys.argv[1:])
    asked = {"-sc", "--shell-completion"} & given and any(argument.startswith("query=") for argument in given)
    if asked and "COMP_LINE" not in os.environ:
        fail(ConfigError("query= is for a shell, which says in COMP_LINE what was typed", "use analyzer -sc install=bash"))


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _launch() -> None:
    """Let Hydra run the job or all jobs of a sweep, then write the report of a sweep of points."""
    global _exit_code  # noqa: PLW0603
    try:
        _app()
    except Exception as error:  # what the process of a job died of, on another machine perhaps
        if not type(error).__module__.startswith("submitit"):
            raise
        first = str(error).strip().splitlines()
        _exit_code = report_failure(
            AnalyzerError(f"a job ended without a result: {first[0] if first else type(error).__name__}")
        )
    from analyzer.progress import Reporter

    reporter = Reporter()
    try:
        ended = multirun.finish(reporter)
        if ended is not None:
            _exit_code = max(_exit_code, _tell(*ended, one_line=True))
    except (AnalyzerError, OSError, MemoryError) as error:
        _exit_code = max(_exit_code, report_failure(as_error(error)))


def _job(config: DictConfig) -> int:
    """Run one job. A failure in a sweep is told when it happens, and the other jobs still run."""
    global _exit_code, _job_began  # noqa: PLW0603  Hydra drops what the job function returns
    _job_began = True
    sweep, points = HydraConfig.get().mode == RunMode.MULTIRUN, multirun.in_point_sweep()
    try:
        settings = read_settings(config, _choices(), _command(), list(HydraConfig.get().overrides.task))
        if sweep and not points and settings.out is not None:
            raise ConfigError("out= names one report, a sweep writes several", "leave out= away, or set reports=DIR")
        code = _run(settings, sweep=sweep)
    except (AnalyzerError, OSError, MemoryError) as error:
        code = _failed(as_error(error), points)
    _exit_code = max(_exit_code, code)
    return code


_app = hydra_main(version_base="1.3", config_path=config_dir(), config_name="config")(_job)
"""``_job`` keeps its name, so that launchers can send it to other processes by that name."""


def _failed(error: AnalyzerError, points: bool) -> int:
    if points:
        multirun.job_failed(error)
    return report_failure(error)


def _run(settings: Settings, *, sweep: bool = False) -> int:
    from analyzer.progress import Reporter

    reporter, points = Reporter(), multirun.in_point_sweep()
    try:
        if points:
            outcome = multirun.run_job(settings, reporter)
        else:
            from analyzer import tasks

            outcome = tasks.run(settings, reporter)
    except KeyboardInterrupt:
        print(f"analyzer: interrupted during: {reporter.current}", file=sys.stderr)
        if not points:
            records = settings.task == "profile"
            kept = "finished run directories are kept, the unfinished one is gone" if records else "nothing unfinished is left"
            print(f"hint: {kept}", file=sys.stderr)
        raise
    # the jobs of a sweep print one document a line, so that a reader can tell them apart
    return _tell(settings, outcome, one_line=sweep)


def _tell(settings: Settings, outcome: Outcome, *, one_line: bool) -> int:
    """Print what a task ends with and return its exit code; the jobs of a sweep of points have no lines."""
    if settings.json:
        show(json.dumps(outcome.document, indent=None if one_line else 2, ensure_ascii=False))
    elif outcome.lines:
        show("\n".join(outcome.lines))
    if settings.strict and outcome.not_measured:
        for line in outcome.not_measured:
            print(f"analyzer: strict=true: {line}", file=sys.stderr)
        return outcome.exit_code or EXIT_UNAVAILABLE
    return outcome.exit_code


def _choices() -> dict[str, str]:
    return {str(k): str(v) for k, v in HydraConfig.get().runtime.choices.items() if v is not None}


def _command() -> tuple[str, ...]:
    """Return the overrides that were given, without those that name places on this machine."""
    return ("analyzer", *multirun.public(list(HydraConfig.get().overrides.task)))
