"""Builds the model that was chosen, a timm name or one's own factory, and the batch that it is called with."""

from __future__ import annotations

import difflib
import functools
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from analyzer.capture.arguments import Arguments, example_arguments
from analyzer.capture.factory import DEVICE_HINT, EXAMPLE_HINT, make
from analyzer.capture.failures import first_line
from analyzer.capture.torchvision_shim import ensure_torchvision
from analyzer.capture.weights import put_weights
from analyzer.errors import AnalyzerError, ConfigError, UnsupportedError
from analyzer.schema.settings import ModelChoice

_WRAPPED = {
    "ScriptModule": ("is a ScriptModule, whose modules run unseen", "return the Python module that it was made from"),
    "OptimizedModule": ("is compiled already", "return the module itself and set compile=default"),
    "DataParallel": ("runs on several devices", "return its .module; one device is measured"),
    "DistributedDataParallel": ("runs on several devices", "return its .module; one device is measured"),
    "FullyShardedDataParallel": ("runs on several devices", "return the module before it is wrapped; one device is measured"),
}
_RETURN_HINT = "let it return the module, or (module, example_input)"
_FAILURES = (
    (("unexpected keyword argument",), "the keys of an example input that is a dict are the names of forward's parameters"),
    (("positional argument", "keyword argument", "keyword-only argument"), EXAMPLE_HINT),
    (
        ("same device", "not compiled with cuda", "no cuda gpus", "found no nvidia driver"),
        DEVICE_HINT,
    ),
    (("does not require grad",), "what is measured is inference, which keeps no gradients"),
)
"""What an error of one's own model says, and the hint that goes with it; else it is explained like that of any model."""


@dataclass(frozen=True, slots=True)
class Built:
    """A model that is ready to be called; ``example`` is what with, None for one image tensor."""

    model: nn.Module
    example: Arguments | None = None


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


def build(choice: ModelChoice, batch_size: int, image_size: int) -> Built:
    """Return the model in eval mode, on torch's current default device, in the dtype that it is made in.

    Its weights are random, or those of ``choice.weights``.

    Raises:
        ConfigError: no such model or factory, an option that it does not take, or a module that cannot be measured.
        UnsupportedError: an image size that it refuses.
        MemoryError, RuntimeError: out of memory, as torch raises it.
    """
    origin = str(choice.factory or choice.name)
    made = make(choice, (batch_size, image_size)) if choice.factory else _from_timm(choice, image_size)
    built = _checked(made, origin)
    try:
        # not chained: a train() of one's own seldom returns the module
        built.model.eval()
        built.model.requires_grad_(False)
    except (NotImplementedError, RuntimeError) as error:
        raise ConfigError(f"{origin} cannot be set to eval mode: {first_line(error)}", "return the Python module") from error
    if any(tensor.is_meta for tensor in built.model.parameters()) and not torch.empty(0).is_meta:
        what = f"{origin} returned a module without data, made for an earlier check of its shapes"
        raise ConfigError(what, "let the factory make a new module each time it is called")
    if choice.weights:
        put_weights(built.model, choice.weights, display_name(choice))
    return built


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
            model: nn.Module = load_timm().create_model(choice.name, **attempt)
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
        return model
    raise AssertionError("the last attempt returns or raises")


def _checked(made: object, origin: str) -> Built:
    """Return the model in ``made`` with its example input, which is what a factory may return."""
    model, example = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, nn.Module):
        kind = "nothing" if made is None else type(made).__name__
        raise ConfigError(f"{origin} returned {kind}, not a torch.nn.Module or (module, example_input)", _RETURN_HINT)
    for path, module in model.named_modules():
        # a ScriptModule inside another module runs like one operator, and is let be
        name = _wrapper(module)
        if name and (not path or name == "OptimizedModule"):
            what, hint = _WRAPPED[name]
            where = f"module {path} of what" if path else "what"
            raise ConfigError(f"{where} {origin} returned {what}", hint)
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        hint = "call the model once in the factory before it is returned"
        raise ConfigError(f"{origin} returned a model with lazy layers, whose weights have no shape yet", hint)
    return Built(model, None if example is None else example_arguments(example, origin))


def _wrapper(module: nn.Module) -> str:
    """Return the name in ``_WRAPPED`` that says what is around a module, nothing for a plain one."""
    names = {base.__name__ for base in type(module).__mro__ if base.__module__.startswith("torch.")}
    found = next((name for name in _WRAPPED if name in names), "")
    compiled = getattr(module, "_compiled_call_impl", None) is not None
    forward = getattr(module, "forward", None)
    disabled = getattr(forward, "_torchdynamo_disable", False)  # kept from the compiler, by a wrapper of the same making
    compiled = compiled or (hasattr(forward, "_torchdynamo_orig_callable") and not disabled)
    return found or ("OptimizedModule" if compiled else "")


@contextmanager
def own_failures(choice: ModelChoice) -> Iterator[None]:
    """Let what one's own model does wrong in the block come out with a hint, and what it prints go to stderr.

    Raises:
        ConfigError: for an error that has to do with the model being one's own; any other passes as it is.
    """
    if not choice.factory:
        yield
        return
    try:
        with redirect_stdout(sys.stderr):
            yield
    except AnalyzerError:
        raise
    except Exception as error:
        text = str(error).lower()
        hint = next((hint for marks, hint in _FAILURES if any(mark in text for mark in marks)), "")
        if not hint:
            raise
        raise ConfigError(f"{display_name(choice)} failed: {type(error).__name__}: {first_line(error)}", hint) from error


def make_input(built: Built, choice: ModelChoice, batch_size: int, image_size: int) -> Arguments:
    """Return what the model is called with: its example input, else a random batch ``[N, C, H, W]`` in float32.

    The batch is drawn on the CPU: a seed gives the same one everywhere.
    """
    if built.example is not None:
        return built.example
    return Arguments((torch.randn((batch_size, channels(choice), image_size, image_size), device="cpu"),))
