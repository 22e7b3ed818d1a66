"""What the settings layout, attention, compile and tf32 mean to torch, each switched on for a block and off behind it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from analyzer.capture.presets import TF32, Resolved
from analyzer.errors import UnsupportedError

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
FORMAT_NAMES = {"contiguous": "contiguous (NCHW)", "channels_last": "channels_last"}
"""What ``memory_format`` of ``run.json`` says."""
_BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
SETTLING_CALLS = 3
"""Calls before a compiled model runs as it will from then on: one compiles, with CUDA graphs one records and one replays."""


_WITH_GRAPHS = ("reduce-overhead", "max-autotune")


def asks_for_graphs(settings: Resolved) -> bool:
    """Tell whether torch.compile is to put the model into CUDA graphs, which each step then replays; it may skip them."""
    return settings.device.type == "cuda" and settings.compile in _WITH_GRAPHS


@contextmanager
def in_force(settings: Resolved) -> Iterator[None]:
    """Run the block with the precision, the attention and the compiler's state that ``settings`` ask for."""
    with ExitStack() as stack:
        stack.enter_context(precision(settings))
        if settings.attention != "auto":
            stack.enter_context(sdpa_kernel(_BACKENDS[settings.attention]))
        if settings.compile != "off":
            stack.enter_context(_clean_compiler())
        yield


@contextmanager
def precision(settings: Resolved) -> Iterator[None]:
    """Run the block with TF32 allowed for products and convolutions (dtype tf32), with neither (float32), else as it was."""
    if settings.tensor_dtype != "float32":
        yield
        return
    allowed = settings.dtype == TF32
    products, convolutions, each = _products(), _convolutions(), _each_precision()
    try:
        torch.set_float32_matmul_precision("high" if allowed else "highest")
        torch.backends.cudnn.allow_tf32 = allowed
        for path in _CONVOLUTIONS if each else ():
            _node(path).fp32_precision = "tf32" if allowed else "ieee"  # "none" takes what is set for all backends
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
        for path, value in each.items():  # from the general to the particular, which follows it unless it is set
            if _node(path).fp32_precision != value:
                _node(path).fp32_precision = value


_CONVOLUTIONS = ("cudnn.conv", "cudnn.rnn")
_PRECISIONS = ("", "cudnn", "mkldnn", "cuda.matmul", *_CONVOLUTIONS, "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")
"""Where below ``torch.backends`` a precision of float32 is set, since torch 2.9."""


def _node(path: str) -> Any:
    return operator.attrgetter(path)(torch.backends) if path else torch.backends


def _each_precision() -> dict[str, str]:
    """Return the precision at every place that this torch has, none before torch 2.9."""
    found = {}
    for path in _PRECISIONS:
        with suppress(AttributeError):
            found[path] = str(_node(path).fp32_precision)
    return found


def _products() -> str:
    """Return what torch's older setting says; torch refuses to tell where the newer one contradicts it."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return "highest"


def _convolutions() -> bool:
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        return True


def matmul_precision(device: torch.device) -> str | None:
    """Return the precision of float32 products in force: highest, high (TF32) or medium; None where torch does not tell."""
    found = _each_precision().get("cuda.matmul" if device.type == "cuda" else "mkldnn.matmul")
    if found is not None:
        return {"none": "highest", "ieee": "highest", "tf32": "high", "bf16": "medium"}.get(found)
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def convolution_tf32() -> bool | None:
    """Tell whether cuDNN may run float32 convolutions as TF32; None where torch does not tell."""
    found = _each_precision().get("cudnn.conv")
    if found is not None:
        return found == "tf32"
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        return None


def place(value: Any, settings: Resolved) -> Any:
    """Return a model or a batch on the device of ``settings``, with their dtype and layout.

    Raises:
        UnsupportedError: a weight that has no such layout, as those of three-dimensional convolutions.
    """
    moved = value.to(device=settings.device, dtype=settings.torch_dtype)
    if settings.layout == "contiguous":
        return moved
    try:
        return moved.to(memory_format=MEMORY_FORMATS[settings.layout])
    except RuntimeError as error:
        if settings.layout not in str(error):
            raise
        what = "the model" if isinstance(value, nn.Module) else "the input"
        raise UnsupportedError(f"{what} cannot be laid out as {settings.layout}: {error}", "use layout=contiguous") from error


def compiled(model: nn.Module, settings: Resolved) -> Callable[..., object]:
    """Return what runs ``model``: the model itself, or its compiled form, which compiles when it is first called."""
    if settings.compile == "off":
        return model
    mode = None if settings.compile == "default" else settings.compile
    return torch.compile(model, mode=mode, dynamic=False)


def execution(compile_mode: str) -> str:
    """Return what ``execution`` of ``run.json`` says."""
    return "eager" if compile_mode == "off" else f"torch.compile ({compile_mode})"


@contextmanager
def _clean_compiler() -> Iterator[None]:
    """Run the block with nothing that torch.compile made before, and leave nothing behind."""
    import torch._functorch.config as functorch
    from torch._inductor import select_algorithm

    tells = getattr(select_algorithm, "PRINT_AUTOTUNE", None)
    torch._dynamo.reset()
    try:
        if tells is not None:
            select_algorithm.PRINT_AUTOTUNE = False  # tables of timings, between the lines of the progress
        # The cache on disk is keyed by the graph before an implementation of attention is chosen: a model compiled with
        # attention=math would come back with the flash attention of an earlier run.
        with functorch.patch(enable_autograd_cache=False):
            yield
    finally:
        if tells is not None:
            select_algorithm.PRINT_AUTOTUNE = tells
        torch._dynamo.reset()
