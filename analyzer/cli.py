"""The command line: Hydra to Settings, task, exit code, final lines. Hydra is imported here and nowhere else."""

from __future__ import annotations

import difflib
import io
import json
import math
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from hydra import main as hydra_main
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from analyzer import __version__
from analyzer.errors import EXIT_FAILED, EXIT_UNAVAILABLE, AnalyzerError, ConfigError
from analyzer.schema.settings import CaptureSettings, ModelChoice, Selection, Settings
from analyzer.usage import usage

_MAX_STEPS = 100_000
_HELP_HINT = "`analyzer --help` lists the groups, the settings and their values"
_exit_code = 0
_job_began = False


def main() -> None:
    """Run the command line and exit with its code."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(usage(Path(_config_dir())))
        return
    if "--version" in sys.argv[1:]:
        print(f"analyzer {__version__}")
        return
    sys.argv[1:] = map(_quote_annotation, sys.argv[1:])
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no minus sign still gets its lines
    user_wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing a page; the lines below print one
    try:
        with tempfile.TemporaryDirectory(prefix="analyzer-") as scratch:
            os.environ["ANALYZER_SWEEP_DIR"] = scratch  # Hydra writes a multirun.yaml for each sweep; nobody needs it
            _app()
    except KeyboardInterrupt:
        sys.exit(EXIT_FAILED)
    except AnalyzerError as error:
        _fail(error)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if user_wants_traceback or _job_began:
            raise
        _fail(_explain(error))
    sys.exit(_exit_code)


def _quote_annotation(argument: str) -> str:
    """Return ``annotation=NAME`` quoted for Hydra: names hold ``#`` and brackets, which mean something in its grammar."""
    key, _, name = argument.partition("=")
    if key != "annotation" or not name or name == "null" or name[0] in "'\"":
        return argument
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"annotation='{escaped}'"


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _config_dir() -> str:
    """Return the configuration directory: inside the package when installed from a wheel, else beside it."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return str(inside if inside.is_dir() else package.parent / "conf")


@hydra_main(version_base="1.3", config_path=_config_dir(), config_name="config")
def _app(config: DictConfig) -> int:
    """Run one job. A failure in a sweep is told when it happens, and the other jobs still run."""
    global _exit_code, _job_began  # noqa: PLW0603  Hydra drops what the job function returns
    _job_began = True
    try:
        settings = read_settings(config, _choices(), _command())
        sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        if sweep and settings.out is not None:
            raise ConfigError("out= names one report, a sweep writes several", "leave out= away, or set reports=DIR")
        code = _run(settings, sweep=sweep)
    except AnalyzerError as error:
        code = _report_failure(error)
    except (OSError, MemoryError) as error:
        what = error.strerror or str(error) if isinstance(error, OSError) else "out of memory"
        code = _report_failure(AnalyzerError(what, "a path that is too long, a full disk or too little memory stops a run"))
    _exit_code = max(_exit_code, code)
    return code


def _run(settings: Settings, *, sweep: bool = False) -> int:
    from analyzer import tasks
    from analyzer.progress import Reporter

    reporter = Reporter()
    try:
        outcome = tasks.run(settings, reporter)
    except KeyboardInterrupt:
        print(f"analyzer: interrupted during: {reporter.current}", file=sys.stderr)
        print("hint: finished run directories are kept, the unfinished one is gone", file=sys.stderr)
        raise
    # the jobs of a sweep print one document a line, so that a reader can tell them apart
    document = json.dumps(outcome.document, indent=None if sweep else 2, ensure_ascii=False) if settings.json else ""
    _print(document or "\n".join(outcome.lines))
    if settings.strict and outcome.not_measured:
        for line in outcome.not_measured:
            print(f"analyzer: strict=true: {line}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    return 0


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader, `head` say, has seen enough; the files are written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _choices() -> dict[str, str]:
    return {str(k): str(v) for k, v in HydraConfig.get().runtime.choices.items() if v is not None}


def _command() -> tuple[str, ...]:
    """Return the overrides that were given, without those that name places on this machine."""
    private = ("out=", "traces=", "reports=", "runs=")
    given = [o for o in HydraConfig.get().overrides.task if not o.lstrip("+").startswith(private)]
    places = ("/", "gpu_spec=")
    return ("analyzer", *(f"{o.split('=', 1)[0]}=<path>" if any(p in o for p in places) else o for o in given))


# --- from Hydra's configuration to Settings ---------------------------------------------------------------------------


def read_settings(config: DictConfig, choices: dict[str, str], command: tuple[str, ...] = ()) -> Settings:
    """Return the settings that ``config`` means.

    Raises:
        ConfigError: a value of another type or out of its range.
    """
    try:
        values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        return _settings(values, choices, command)
    except OmegaConfBaseException as error:
        raise _explain(error) from error
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"a setting is missing or of another shape: {error}", "leave the settings in place, without ~"
        ) from error


def _settings(values: dict[str, Any], choices: dict[str, str], command: tuple[str, ...]) -> Settings:
    capture = CaptureSettings(
        device=_text(values, "device"),
        batch_size=_number(values, "batch_size", int, minimum=1),
        image_size=_number(values, "image_size", int, minimum=1),
        dtype=values["dtype"] and _text(values, "dtype"),
        iterations=_number(values, "iterations", int, minimum=10),
        traced_steps=_required(values, "traced_steps", int, minimum=3),
        stacks=_flag(values, "stacks"),
        repeats=_required(values, "repeats", int, minimum=1),
        warmup_max_s=_required(values, "warmup_max_s", float, minimum=0),
        threads=_number(values, "threads", int, minimum=1),
        seed=_required(values, "seed", int, minimum=0),
        sample_period_s=_required(values, "sample_period_s", float, minimum=0.01),
        calibrate=_one_of(values, "calibrate", ("auto", "force", "off")),
        out_root=Path(_text(values, "traces")),
        command=command,
    )
    if values["steps"] is not None and values["annotation"] is not None:
        raise ConfigError("steps= and annotation= both select a part of the trace", "give one of them")
    models = tuple(found for family in ("vit", "cnn") if (found := _model(values, family, choices.get(family, ""))))
    return Settings(
        task=str(values["task"]["name"]),
        models=models,
        capture=capture,
        runs=_runs(values["runs"]),
        selection=Selection(
            steps=_steps(values["steps"]),
            annotation=_text(values, "annotation") if values["annotation"] is not None else None,
            rank=_number(values, "rank", int, minimum=0),
            max_expansion=_required(values, "max_expansion", float, minimum=1),
        ),
        gpu_spec=Path(_text(values, "gpu_spec")) if values["gpu_spec"] is not None else None,
        gpus=_gpus(values["gpu"]),
        reports=Path(_text(values, "reports")),
        out=Path(_text(values, "out")) if values["out"] is not None else None,
        json=_flag(values, "json"),
        dry_run=_flag(values, "dry_run"),
        strict=_flag(values, "strict"),
    )


def _model(values: dict[str, Any], family: str, choice: str) -> ModelChoice | None:
    group = values[family]
    name, factory, label = group["name"], group["factory"], str(group["label"])
    if name is None and factory is None:
        return None
    if factory is not None and name in (None, choice):
        name = label = str(factory).rsplit(":", 1)[-1]
    elif name != choice:
        label = str(name)  # a timm model by its name: the label of the group's file is not its own
    return ModelChoice(family, str(name), label, str(factory) if factory else None, dict(group["options"] or {}))


def _text(values: dict[str, Any], key: str) -> str:
    if not isinstance(values[key], str) or not values[key]:
        raise ConfigError(f"{key} must be text, not {values[key]!r}", _HELP_HINT)
    return str(values[key])


def _flag(values: dict[str, Any], key: str) -> bool:
    if not isinstance(values[key], bool):
        raise ConfigError(f"{key} must be true or false, not {values[key]!r}", _HELP_HINT)
    return bool(values[key])


def _number(values: dict[str, Any], key: str, kind: type[int] | type[float], minimum: float | None = None) -> Any:
    value = values[key]
    if value is None:
        return None
    wanted = "a whole number" if kind is int else "a number"
    if isinstance(value, bool) or not isinstance(value, (int, kind)):
        raise ConfigError(f"{key} must be {wanted}, not {value!r}", f"for example {key}=8")
    if not math.isfinite(value) or (minimum is not None and value < minimum):
        raise ConfigError(f"{key} must be at least {minimum}, not {value}", f"for example {key}={minimum or 1}")
    return kind(value)


def _required(values: dict[str, Any], key: str, kind: type[int] | type[float], minimum: float) -> Any:
    if values[key] is None:
        raise ConfigError(f"{key} has no preset, so it cannot be null", f"for example {key}={minimum or 1}")
    return _number(values, key, kind, minimum)


def _one_of(values: dict[str, Any], key: str, allowed: tuple[str, ...]) -> str:
    value = values[key]
    value = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
    if value not in allowed:
        raise ConfigError(f"{key} must be one of {', '.join(allowed)}, not {value!r}", _HELP_HINT)
    return str(value)


def _runs(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    found = value if isinstance(value, list) else [value]
    if not found or not all(isinstance(text, str) and text for text in found):
        raise ConfigError(f"runs= must name paths, not {value!r}", "give a run directory, a trace file, a list or a glob")
    return tuple(found)


def _gpus(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    found = value if isinstance(value, list) else [value]
    if not found or not all(isinstance(text, str) and text for text in found):
        raise ConfigError(
            f"gpu= must name GPUs of the database, not {value!r}", "for example gpu=h100_sxm5_80gb or gpu=[h100_sxm5_80gb,b200]"
        )
    return tuple(dict.fromkeys(text.casefold() for text in found))


def _steps(value: Any) -> tuple[int, ...] | None:
    """Return the profiler steps that ``3``, ``[3,5]`` or ``3-5`` (both ends included) name."""
    if value is None:
        return None
    found = value if isinstance(value, list) else [value]
    if isinstance(value, str) and (match := re.fullmatch(r"(\d{1,9})-(\d{1,9})", value)):
        first, last = int(match.group(1)), int(match.group(2))
        if 0 <= last - first <= _MAX_STEPS:
            return tuple(range(first, last + 1))
    if not found or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in found):
        raise ConfigError(f"steps= must name profiler steps, not {value!r}", "for example steps=3, steps=3-5 or steps=[3,5]")
    return tuple(sorted(set(found)))


# --- errors ------------------------------------------------------------------------------------------------------------


def _explain(error: Exception) -> ConfigError:
    """Return one line and a hint for what Hydra says in a page."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    if "Could not find" in str(error):
        asked = next(line for line in lines if "Could not find" in line).split("'")[-2]
        group, _, name = asked.partition("/")
        options = sorted(p.stem for p in (Path(_config_dir()) / group).glob("*.yaml"))
        near = difflib.get_close_matches(name, options, n=3, cutoff=0.4) or options
        also = f"; any timm model works with {group}.name=NAME" if group in ("vit", "cnn") else ""
        return ConfigError(f"no {group} called {name!r}", f"nearest: {', '.join(near)}{also}")
    if first.startswith("Could not override") or "is not in struct" in first:
        asked = first.split("'")[1]
        keys = [k for k in OmegaConf.load(Path(_config_dir()) / "config.yaml") if k not in ("defaults", "hydra")]
        near = difflib.get_close_matches(asked, [str(k) for k in keys], n=3)
        return ConfigError(f"no setting called {asked!r}", f"nearest: {', '.join(near)}" if near else _HELP_HINT)
    if "mismatched input" in first or "token recognition" in first or "no viable alternative" in first:
        return ConfigError(first, "quote a value that holds = , or brackets: 'runs=\"traces/a=b\"'")
    return ConfigError(first, _HELP_HINT)


def _report_failure(error: AnalyzerError) -> int:
    print(f"analyzer: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
    return error.exit_code


def _fail(error: AnalyzerError) -> NoReturn:
    sys.exit(_report_failure(error))
