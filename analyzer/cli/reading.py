"""From Hydra's configuration to Settings: every value checked once, at the edge."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from analyzer.cli.failures import HELP_HINT, config_dir, explain
from analyzer.errors import ConfigError
from analyzer.schema.settings import (
    ATTENTION,
    COMPILE,
    COUNTERS,
    INPUTS,
    LAYOUTS,
    CaptureSettings,
    ModelChoice,
    Selection,
    Settings,
)

FAMILIES = ("vit", "cnn")
LISTS = (
    "batch_size", "image_size", "dtype", "layout", "attention", "autocast", "input", "cudnn_benchmark", "compile", "threads",
)  # fmt: skip
"""Settings that task=profile takes as a list too, attention=[flash,math]: it runs the models once with each value."""
_MAX_VARIANTS = 64
_MAX_STEPS = 100_000


def read_settings(
    config: DictConfig, choices: dict[str, str], command: tuple[str, ...] = (), overrides: Sequence[str] = ()
) -> Settings:
    """Return the settings that ``config`` means; ``overrides`` are those that were typed or that an experiment sweeps.

    Raises:
        ConfigError: a value of another type or out of its range, or settings that exclude each other.
    """
    try:
        values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        _check_model(values, overrides)
        return _settings(values, choices, command)
    except OmegaConfBaseException as error:
        raise explain(error) from error
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"a setting is missing or of another shape: {error}", "leave the settings in place, without ~"
        ) from error


def _captures(values: dict[str, Any], command: tuple[str, ...]) -> tuple[CaptureSettings, ...]:
    """Return the ways to run the models: one, or each combination of the values that settings of LISTS were given as a list."""
    lists = {key: _distinct(key, values[key]) for key in LISTS if isinstance(values[key], list)}
    if lists and (task := str(values["task"]["name"])) != "profile":
        key = next(iter(lists))
        raise ConfigError(f"{key}= is a list, and task={task} takes one value", "only task=profile runs each value of a list")
    if math.prod(map(len, lists.values())) > _MAX_VARIANTS:
        given = " and ".join(f"{key}=" for key in lists)
        raise ConfigError(f"{given} make more than {_MAX_VARIANTS} ways to run a model", "a sweep takes any number: see -m")
    return tuple(_capture(values | dict(zip(lists, one, strict=True)), command) for one in itertools.product(*lists.values()))


def _distinct(key: str, given: list[Any]) -> list[Any]:
    found = list({repr(value): value for value in given}.values())
    if not found:
        raise ConfigError(f"{key}= is an empty list", f"leave {key}= away, or give it a value")
    return found


def _capture(values: dict[str, Any], command: tuple[str, ...]) -> CaptureSettings:
    return CaptureSettings(
        device=_text(values, "device"),
        batch_size=_number(values, "batch_size", int, minimum=1),
        image_size=_number(values, "image_size", int, minimum=1),
        dtype=values["dtype"] and _text(values, "dtype"),
        layout=_one_of(values, "layout", LAYOUTS),
        attention=_one_of(values, "attention", ATTENTION),
        compile=_one_of(values, "compile", COMPILE),
        autocast=_flag(values, "autocast"),
        input=_one_of(values, "input", INPUTS),
        cudnn_benchmark=_flag(values, "cudnn_benchmark") if values["cudnn_benchmark"] is not None else None,
        iterations=_number(values, "iterations", int, minimum=10),
        traced_steps=_required(values, "traced_steps", int, minimum=3),
        stacks=_flag(values, "stacks"),
        repeats=_required(values, "repeats", int, minimum=1),
        warmup_max_s=_required(values, "warmup_max_s", float, minimum=0),
        threads=_number(values, "threads", int, minimum=1),
        seed=_required(values, "seed", int, minimum=0),
        sample_period_s=_required(values, "sample_period_s", float, minimum=0.01),
        calibrate=_one_of(values, "calibrate", ("auto", "force", "off")),
        counters="none" if _counter_file(values) else _one_of(values, "counters", COUNTERS),
        out_root=Path(_text(values, "traces")),
        command=command,
    )


def _settings(values: dict[str, Any], choices: dict[str, str], command: tuple[str, ...]) -> Settings:
    capture, *variants = _captures(values, command)
    if values["steps"] is not None and values["annotation"] is not None:
        raise ConfigError("steps= and annotation= both select a part of the trace", "give one of them")
    models = _models(values, choices)
    return Settings(
        task=str(values["task"]["name"]),
        models=models,
        capture=capture,
        variants=tuple(variants),
        runs=_paths(values, "runs"),
        selection=Selection(
            steps=_steps(values["steps"]),
            annotation=_text(values, "annotation") if values["annotation"] is not None else None,
            rank=_number(values, "rank", int, minimum=0),
            max_expansion=_required(values, "max_expansion", float, minimum=1),
        ),
        gpu_spec=Path(_text(values, "gpu_spec")) if values["gpu_spec"] is not None else None,
        counter_file=_counter_file(values),
        gpus=_gpus(values, "gpu"),
        baseline=_paths(values, "baseline"),
        onto=_gpus(values, "onto"),
        price=_number(values, "price", float, minimum=0),
        resume=_flag(values, "resume"),
        min_effect_pct=_required(values, "min_effect_pct", float, minimum=0),
        reports=Path(_text(values, "reports")),
        out=Path(_text(values, "out")) if values["out"] is not None else None,
        json=_flag(values, "json"),
        dry_run=_flag(values, "dry_run"),
        strict=_flag(values, "strict"),
    )


def _check_model(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Check that nobody names models twice: ``model=``, of an experiment perhaps, would win without a word."""
    if values["model"] is None:
        return
    for override in overrides:
        key = override.lstrip("+~").split("=", 1)[0].split("@", 1)[0]
        family, _, rest = key.partition(".")
        if family in FAMILIES and rest in ("", "name", "factory"):
            what = f"{key}= and model={values['model']} both say what runs"
            raise ConfigError(what, "name the models with model=A,B and -m, or set model=null")


def _models(values: dict[str, Any], choices: dict[str, str]) -> tuple[ModelChoice, ...]:
    if values["model"] is not None:
        return (_named_model(values, choices),)
    found = [found for family in FAMILIES if (found := _model(values, family, choices.get(family, "")))]
    if len({choice.label for choice in found}) < len(found):  # two functions of one name, in two modules
        found = [replace(choice, label=(choice.factory or choice.label).replace(":", ".")) for choice in found]
    return tuple(found)


def _named_model(values: dict[str, Any], choices: dict[str, str]) -> ModelChoice:
    """Return the one model that ``model=`` names, with those options of its family that the command line set."""
    name = _text(values, "model")
    files = {path.stem: path for family in FAMILIES for path in sorted(Path(config_dir(), family).glob("*.yaml"))}
    files.pop("none", None)
    if name not in files:
        near = difflib.get_close_matches(name, files, n=3, cutoff=0.4) or sorted(files)
        raise ConfigError(f"no model called {name!r}", f"nearest: {', '.join(near)}; any timm model works with vit.name=NAME")
    family = files[name].parent.name
    preset = files.get(choices.get(family, ""))
    unset = _model_file(preset)["options"] if preset is not None else {}
    given = {key: value for key, value in (values[family]["options"] or {}).items() if unset.get(key, ...) != value}
    group = _model_file(files[name])
    options, weights = group["options"] | given, _weights(values, family)
    return ModelChoice(family, str(group["name"]), str(group["label"]), group["factory"], options, weights)


def _model_file(path: Path) -> dict[str, Any]:
    group: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(path))  # type: ignore[assignment]
    return group | {"options": dict(group["options"] or {})}


def _model(values: dict[str, Any], family: str, choice: str) -> ModelChoice | None:
    group = values[family]
    name, factory, label = group["name"], group["factory"], str(group["label"])
    if name is None and factory is None:
        return None
    preset = Path(config_dir(), family, f"{choice}.yaml")
    unlabelled = not preset.is_file() or label == str(_model_file(preset)["label"])
    if factory is not None and name in (None, choice):
        name = str(factory).rsplit(":", 1)[-1]
    if unlabelled and name != choice:
        label = str(name)  # one's own model or a timm model by its name: the label of the group's file is not its own
    factory = str(factory) if factory else None
    return ModelChoice(family, str(name), label, factory, dict(group["options"] or {}), _weights(values, family))


def _weights(values: dict[str, Any], family: str) -> str | None:
    """Return the file of a state dict, None where none is named."""
    found = values[family].get("weights")
    if found is not None and (not isinstance(found, str) or not found):
        raise ConfigError(f"{family}.weights must name a file, not {found!r}", f"for example {family}.weights=state.pt")
    return found


def _text(values: dict[str, Any], key: str) -> str:
    if not isinstance(values[key], str) or not values[key]:
        raise ConfigError(f"{key} must be text, not {values[key]!r}", HELP_HINT)
    return str(values[key])


def _flag(values: dict[str, Any], key: str) -> bool:
    if not isinstance(values[key], bool):
        raise ConfigError(f"{key} must be true or false, not {values[key]!r}", HELP_HINT)
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
        given = str(values[key]).lower() if isinstance(values[key], bool) else repr(value)
        raise ConfigError(f"{key} must be one of {', '.join(allowed)}, not {given}", HELP_HINT)
    return str(value)


def _paths(values: dict[str, Any], key: str) -> tuple[str, ...]:
    return _texts(values, key, "paths", "give a run directory, a trace file, a list or a glob")


def _gpus(values: dict[str, Any], key: str) -> tuple[str, ...]:
    hint = f"for example {key}=h100_sxm5_80gb or {key}=[h100_sxm5_80gb,b200]"
    return tuple(dict.fromkeys(text.casefold() for text in _texts(values, key, "GPUs of the database", hint)))


def _texts(values: dict[str, Any], key: str, what: str, hint: str) -> tuple[str, ...]:
    value = values[key]
    if value is None:
        return ()
    found = value if isinstance(value, list) else [value]
    if not found or not all(isinstance(text, str) and text for text in found):
        raise ConfigError(f"{key}= must name {what}, not {value!r}", hint)
    return tuple(found)


def _counter_file(values: dict[str, Any]) -> Path | None:
    """Return the file that ``counters=FILE.csv`` names, None where it says how to read counters."""
    value = values["counters"]
    if isinstance(value, str) and value not in COUNTERS and not value.casefold().endswith(".csv"):
        raise ConfigError(f"counters must be {', '.join(COUNTERS)} or a file that ends in .csv, not {value!r}", HELP_HINT)
    return Path(value) if isinstance(value, str) and value.casefold().endswith(".csv") else None


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
