"""Builds the model that was chosen: a timm name with random weights, or one's own factory."""

from __future__ import annotations

import difflib
import functools
import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from analyzer.capture.failures import first_line, is_out_of_memory
from analyzer.capture.torchvision_shim import ensure_torchvision
from analyzer.errors import AnalyzerError, ConfigError, UnsupportedError
from analyzer.schema.settings import ModelChoice

_FACTORY_HINT = "write factory=package.module:function; the current directory is searched too"


@functools.cache
def load_timm() -> Any:
    """Return the module ``timm``, loaded behind the torchvision shim."""
    ensure_torchvision()
    return importlib.import_module("timm")


def display_name(choice: ModelChoice) -> str:
    """Return the name that messages and run directories use."""
    return choice.name or (choice.factory or "model").split(":")[-1]


def channels(choice: ModelChoice) -> int:
    """Return the number of input channels: 3 unless the options say otherwise."""
    return int(choice.options.get("in_chans", 3))


def build(choice: ModelChoice, image_size: int) -> nn.Module:
    """Return the model in eval mode, on torch's current default device, in float32, with random weights.

    Raises:
        ConfigError: no such model or factory, or an option that it does not take.
        UnsupportedError: an image size that it refuses.
        MemoryError, RuntimeError: out of memory, as torch raises it.
    """
    model = _from_factory(choice) if choice.factory else _from_timm(choice, image_size)
    return model.eval().requires_grad_(False)


def check_name(choice: ModelChoice) -> None:
    """Raise ConfigError, naming the nearest models, when timm does not have the model."""
    if choice.factory:
        return
    name = choice.name or ""
    timm = load_timm()
    if name and "/" not in name and ":" not in name and timm.is_model(name):
        return
    near = difflib.get_close_matches(name.split(".")[0].lower(), timm.list_models(), n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists them all"
    raise ConfigError(f"timm has no model named {name or '(empty)'}", hint)


def _from_timm(choice: ModelChoice, image_size: int) -> nn.Module:
    check_name(choice)
    options = {"pretrained": False, **choice.options}
    if options["pretrained"]:
        raise ConfigError("pretrained weights are not used: speed does not depend on them", "remove options.pretrained")
    attempts = [options] if "img_size" in options else [{**options, "img_size": image_size}, options]
    for attempt in attempts:
        try:
            model = load_timm().create_model(choice.name, **attempt)
        except TypeError as error:
            # Convolutional models take any size and no such argument; only then is it left out.
            if attempt is not options and "img_size" in str(error):
                continue
            raise ConfigError(f"{choice.name} does not take these options: {first_line(error)}", "check options") from error
        except (AssertionError, ValueError) as error:
            raise UnsupportedError(
                f"{choice.name} cannot be built for image_size={image_size}: {first_line(error)}",
                "choose another image_size, such as 224",
            ) from error
        return _checked(model, choice.name)
    raise AssertionError("the last attempt returns or raises")


def _from_factory(choice: ModelChoice) -> nn.Module:
    function = _load_factory(str(choice.factory))
    try:
        model = function(**choice.options)
    except AnalyzerError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        text = f"the factory {choice.factory} raised {type(error).__name__}: {first_line(error)}"
        raise ConfigError(text, "check the factory and options=") from error
    return _checked(model, str(choice.factory))


def _checked(model: object, origin: str) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{origin} returned {type(model).__name__}, not a torch.nn.Module", _FACTORY_HINT)
    return model


def _load_factory(path: str) -> Any:
    module_name, _, function_name = path.partition(":")
    if not module_name or not function_name:
        raise ConfigError(f"factory={path} is not of the form package.module:function", _FACTORY_HINT)
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        text = f"cannot import {module_name} of factory={path}: {type(error).__name__}: {first_line(error)}"
        raise ConfigError(text, _FACTORY_HINT) from error
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigError(f"{module_name} has no function {function_name}", _FACTORY_HINT)
    return function


def make_input(choice: ModelChoice, batch_size: int, image_size: int) -> torch.Tensor:
    """Return a random batch ``[N, C, H, W]`` in float32, drawn on the CPU: a seed gives the same batch everywhere."""
    return torch.randn((batch_size, channels(choice), image_size, image_size), device="cpu")
