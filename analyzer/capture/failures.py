"""Turns what torch raises while a model is built or runs into an error with a hint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from analyzer.errors import AnalyzerError, ConfigError, DeviceError, OutOfMemoryError, UnsupportedError

_OUT_OF_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "out of memory",
    "cannot allocate memory",
    "status_alloc_failed",
)
_NO_KERNEL = ("not implemented for '", "no kernel", "not supported for", "unsupported dtype")
_NO_ATTENTION = ("no available kernel", "no viable backend for scaled_dot_product_attention")
_COMPILERS = ("torch._dynamo.", "torch._inductor.", "torch._functorch.", "triton.")
MEMORY_HINT = "use a smaller batch_size or image_size"


def first_line(error: BaseException) -> str:
    """Return the first line of ``error``, short enough for one line on a terminal."""
    text = str(error).strip().splitlines()
    line = text[0].strip().rstrip(".") if text else ""
    return (line if len(line) <= 200 else line[:197] + "...") or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether ``error`` says that memory ran out, on the host or on the device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(mark in text for mark in _OUT_OF_MEMORY)


def explain(error: Exception, model: str, device: str, dtype: str) -> AnalyzerError:
    """Return the error to show for ``error``, raised while ``model`` was set up or ran on ``device`` in ``dtype``."""
    if isinstance(error, AnalyzerError):
        return error
    if is_out_of_memory(error):
        return OutOfMemoryError(f"{model}: out of memory on {device}", MEMORY_HINT)
    if isinstance(error, OSError) and error.strerror:
        return ConfigError(f"cannot write the run directory: {error.strerror}", "make room, or choose another directory")
    unsupported = _unsupported(error, model, device, dtype)
    if unsupported is not None:
        return unsupported
    text = first_line(error)
    if "CUDA" in str(error) or type(error).__name__ == "AcceleratorError":
        return DeviceError(f"{model}: the device {device} failed: {text}", "check it with nvidia-smi, then run again")
    return ConfigError(
        f"{model} failed on {device}: {type(error).__name__}: {text}",
        "choose another model or image_size; with a factory, look at its forward",
    )


def _unsupported(error: Exception, model: str, device: str, dtype: str) -> UnsupportedError | None:
    """Return the error to show where ``error`` says that something is not supported, None where it says something else."""
    text = str(error).lower()
    if isinstance(error, RuntimeError) and any(mark in text for mark in _NO_ATTENTION):
        what = f"{model}: the asked-for attention implementation cannot run this model in {dtype} on {device}"
        return UnsupportedError(what, "use attention=auto, or another dtype")
    if isinstance(error, (RuntimeError, NotImplementedError)) and any(mark in text for mark in _NO_KERNEL):
        hint = "use dtype=float32" if dtype != "float32" else "choose another model or device"
        return UnsupportedError(f"{model} cannot run in {dtype} on {device}: {first_line(error)}", hint)
    if f"{type(error).__module__}.".startswith(_COMPILERS):
        inner = getattr(error, "inner_exception", error)
        what = f"{model}: torch.compile failed on {device}: {type(inner).__name__}: {first_line(inner)}"
        return UnsupportedError(what, "use compile=off, or another mode of it")
    return None


@contextmanager
def explained(model: str, device: str, dtype: str) -> Iterator[None]:
    """Let every ``Exception`` of the block come out as an ``AnalyzerError``. KeyboardInterrupt passes untouched."""
    try:
        yield
    except Exception as error:
        raise explain(error, model, device, dtype) from error
