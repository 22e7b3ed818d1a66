"""What a model may set for the whole process: put back afterwards, so that no model depends on the ones before it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from analyzer.capture.modes import kept_precision


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


def _attribute(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


_SDP = ("flash_sdp", "mem_efficient_sdp", "math_sdp", "cudnn_sdp")
_cuda: Any = torch.backends.cuda
_STATE: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
    "threads": (torch.get_num_threads, torch.set_num_threads),
    "dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "products": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "deterministic": (_deterministic, _set_deterministic),
    "gradients": (torch.is_grad_enabled, torch._C._set_grad_enabled),
    **{f"cudnn.{name}": _attribute(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")},
    **{
        name: (getattr(_cuda, f"{name}_enabled"), getattr(_cuda, f"enable_{name}"))
        for name in _SDP
        if hasattr(_cuda, f"{name}_enabled") and hasattr(_cuda, f"enable_{name}")
    },
}


def taken() -> dict[str, Any]:
    """Return what is set in this process, by name; what this torch does not tell is left out."""
    found = {}
    for name, (read, _) in _STATE.items():
        with suppress(RuntimeError, AttributeError):
            found[name] = read()
    return found


def put_back(state: dict[str, Any]) -> None:
    """Set what differs from ``state``."""
    for name, value in state.items():
        read, write = _STATE[name]
        with suppress(RuntimeError, AttributeError):
            if read() != value:
                write(value)


@contextmanager
def unchanged() -> Iterator[None]:
    """Run the block; afterwards torch's settings of the process and the current directory are those of before."""
    before, here = taken(), Path.cwd()
    try:
        with kept_precision():
            yield
    finally:
        put_back(before)
        os.chdir(here)
