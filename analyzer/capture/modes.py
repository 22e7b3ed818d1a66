"""What the settings of a run mean to torch, each switched on for a block and off behind it."""

from __future__ import annotations

import functools
import logging
import operator
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from analyzer.capture.presets import DTYPES, TF32, Resolved
from analyzer.errors import UnsupportedError
from analyzer.schema.run import RunSettings

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


_WITH_GRAPHS = {"reduce-overhead": "default", "max-autotune": "max-autotune-no-cudagraphs"}
"""Modes that use CUDA graphs, and the modes that make the same code without them."""


def asks_for_graphs(settings: Resolved) -> bool:
    """Tell whether torch.compile is to put the model into CUDA graphs, which each step then replays; it may skip them."""
    return settings.device.type == "cuda" and settings.compile in _WITH_GRAPHS


def without_graphs(settings: Resolved) -> str:
    """Return the mode of torch.compile that makes the code of ``settings`` without CUDA graphs."""
    return _WITH_GRAPHS.get(settings.compile, settings.compile)


@contextmanager
def in_force(settings: Resolved) -> Iterator[None]:
    """Run the block with the precision, cuDNN's search, the attention and the compiler's state that ``settings`` ask for."""
    with ExitStack() as stack:
        stack.enter_context(precision(settings))
        stack.enter_context(_cudnn_search(settings.cudnn_benchmark))
        if settings.attention != "auto":
            stack.enter_context(sdpa_kernel(_BACKENDS[settings.attention]))
        if settings.compile != "off":
            stack.enter_context(_clean_compiler())
        yield


@contextmanager
def precision(settings: Resolved) -> Iterator[None]:
    """Run the block with TF32 allowed for products and convolutions (dtype tf32), with neither (float32), else as it was."""
    if settings.dtype not in ("float32", TF32):
        yield
        return
    allowed = settings.dtype == TF32
    with kept_precision() as each:
        torch.set_float32_matmul_precision("high" if allowed else "highest")
        torch.backends.cudnn.allow_tf32 = allowed
        for path in _CONVOLUTIONS if each else ():
            _node(path).fp32_precision = "tf32" if allowed else "ieee"  # "none" takes what is set for all backends
        yield


@contextmanager
def kept_precision() -> Iterator[dict[str, str]]:
    """Run the block, then put every precision of float32 back; yields those of before by their place below torch.backends."""
    products, convolutions, each = _products(), _convolutions(), _each_precision()
    try:
        yield each
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
        for path, value in each.items():  # from the general to the particular, which follows it unless it is set
            if _node(path).fp32_precision != value:
                _node(path).fp32_precision = value


@contextmanager
def _cudnn_search(wanted: bool | None) -> Iterator[None]:
    """Run the block with cuDNN timing its algorithms for a convolution that it meets first, or not; None leaves it as it is."""
    kept = torch.backends.cudnn.benchmark
    try:
        if wanted is not None:
            torch.backends.cudnn.benchmark = wanted
        yield
    finally:
        torch.backends.cudnn.benchmark = kept


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


def place(value: Any, settings: Resolved, device: torch.device | None = None) -> Any:
    """Return a model or a batch with the dtype and layout of ``settings``, on their device or the one given.

    Raises:
        UnsupportedError: a weight that has no such layout, as those of three-dimensional convolutions.
    """
    moved = value.to(device=device or settings.device, dtype=settings.torch_dtype)
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


def casting(call: Callable[[Any], object], settings: Resolved) -> Callable[[Any], object]:
    """Return ``call`` under torch.autocast where ``settings`` ask for it, which each call enters anew, as a server does.

    Every call therefore casts every weight that gains from it. A cast is kept within one call alone, and there only of weights
    that may still be trained and outside of inference mode (``cached_cast`` in PyTorch's aten/src/ATen/autocast_mode.cpp);
    those of a run never are.
    """
    if not settings.autocast:
        return call

    def cast(batch: Any) -> object:
        with torch.autocast(settings.device.type, dtype=DTYPES[settings.dtype]):
            return call(batch)

    return cast


def feeding(call: Callable[[Any], object], batch: Any, settings: Resolved) -> Callable[[], object]:
    """Return what runs ``call`` on ``batch``: as it lies, or copied to the device first (``input=host``).

    The copy comes out of pinned memory and does not block the host, as a data loader with ``pin_memory=True`` and
    ``non_blocking=True`` does it; ``batch`` has its element type and layout already, so nothing but the copy is added.
    """
    if settings.input == "device":
        return functools.partial(call, batch)
    pinned = batch.pin_memory()

    def copied() -> object:
        return call(pinned.to(settings.device, non_blocking=True))

    return copied


NOTHING_COMPILED = "eager (torch.compile compiled nothing)"


def execution(compile_mode: str, *, eager: bool = False) -> str:
    """Return what ``execution`` of ``run.json`` says; ``eager``: nothing was compiled, whatever was asked for."""
    if compile_mode == "off":
        return "eager"
    return NOTHING_COMPILED if eager else f"torch.compile ({compile_mode})"


def unmet(asked: Resolved, had: RunSettings) -> list[str]:
    """Return a warning on each setting of the process that the model overruled, now that it has run."""
    found = []
    if had.dtype == "float32" and (had.convolution_tf32 or had.matmul_precision in ("high", "medium")):
        found.append("dtype=float32 forbids TF32, and the model allows it again")
    for name in ("threads", "cudnn_benchmark"):
        wanted, was = getattr(asked, name), getattr(had, name)
        if wanted is not None and was is not None and was != wanted:
            found.append(f"{name}={str(wanted).lower()} was asked for, and the model set it to {str(was).lower()}")
    return found


@contextmanager
def _quiet_dynamo() -> Iterator[None]:
    """Run the block without Dynamo's own warnings, such as a page per graph break, unless TORCH_LOGS asks for its words."""
    logger = logging.getLogger("torch._dynamo")
    level = logger.level
    try:
        if "TORCH_LOGS" not in os.environ:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def outside_ci() -> Iterator[None]:
    """Run the block without the variable ``CI``.

    Inductor takes it for PyTorch's own CI and raises where it otherwise falls back to a library call: in any CI, a model would
    fail that compiles everywhere else (``torch/_inductor/lowering.py``, ``make_fallback``).
    """
    found = os.environ.pop("CI", None)
    try:
        yield
    finally:
        if found is not None:
            os.environ["CI"] = found


@contextmanager
def _clean_compiler() -> Iterator[None]:
    """Run the block with nothing that torch.compile made before, and leave nothing behind."""
    import torch._functorch.config as functorch
    from torch._inductor import config, select_algorithm

    # Each kernel that is made for a CPU opens a record of the profiler, which tells its time from that of the code around it.
    # Where no profiler runs it finds that nobody listens; benchmarks/compiled_profiling.py measures what that takes.
    told = hasattr(config.cpp, "enable_kernel_profile")
    profiled = config.patch({"cpp.enable_kernel_profile": True}) if told else nullcontext()
    tells = getattr(select_algorithm, "PRINT_AUTOTUNE", None)
    torch._dynamo.reset()
    try:
        if tells is not None:
            select_algorithm.PRINT_AUTOTUNE = False  # tables of timings, between the lines of the progress
        # The cache on disk is keyed by the graph before an implementation of attention is chosen: a model compiled with
        # attention=math would come back with the flash attention of an earlier run.
        with profiled, functorch.patch(enable_autograd_cache=False), _quiet_dynamo(), outside_ci():
            yield
    finally:
        if tells is not None:
            select_algorithm.PRINT_AUTOTUNE = tells
        torch._dynamo.reset()
