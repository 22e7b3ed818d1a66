"""A model ready to run: built, moved, with its input, in inference mode; everything freed afterwards."""

from __future__ import annotations

import functools
import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import nn

from analyzer.capture.environment import cpu_threads
from analyzer.capture.failures import MEMORY_HINT, explained
from analyzer.capture.meta import Inspection
from analyzer.capture.modes import compiled, in_force, place
from analyzer.capture.presets import Resolved
from analyzer.capture.workload import build, display_name, make_input
from analyzer.errors import OutOfMemoryError
from analyzer.schema.settings import ModelChoice

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass
class Ready:
    """A model on its device. ``input_shape`` is ``(N, C, H, W)``; ``step`` runs one batch as the settings say."""

    model: nn.Module
    step: Callable[[], object]
    input_shape: tuple[int, ...]
    parameters: int


@contextmanager
def prepared(choice: ModelChoice, settings: Resolved) -> Iterator[Ready]:
    """Build the model and yield it ready; on leaving, free it and restore the number of threads.

    Raises:
        AnalyzerError: the model cannot be built or run here, with a hint; also for what the block raises.
    """
    device = settings.device
    name = display_name(choice)
    try:
        quiet, told = warnings.catch_warnings(), explained(name, str(device), settings.dtype)
        with cpu_threads(settings.threads), quiet, told, in_force(settings), torch.inference_mode():
            warnings.simplefilter("ignore")
            if device.type == "cuda":
                torch.cuda.set_device(device)
            torch.manual_seed(settings.seed)
            model = build(choice, settings.image_size)
            parameters = sum(parameter.numel() for parameter in model.parameters())
            model = place(model, settings)
            batch = place(make_input(choice, settings.batch_size, settings.image_size), settings)
            step = functools.partial(compiled(model, settings), batch)
            ready = Ready(model, step, tuple(batch.shape), parameters)
            del model, batch, step  # what is left to hold them is ``ready``
            try:
                yield ready
            finally:
                ready.step, ready.model = _gone, nn.Identity()
    finally:
        release(device)


def _gone() -> None:
    raise RuntimeError("the model has been freed")


def release(device: torch.device) -> None:
    """Give memory that nobody holds back to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def check_memory(choice: ModelChoice, settings: Resolved, found: Inspection) -> None:
    """Refuse what cannot fit, before anything is allocated: a CPU run out of memory is killed, not told.

    The bound is a lower one: weights and the tensors of the most demanding operator.

    Raises:
        OutOfMemoryError: more memory is needed than there is.
    """
    needed = found.parameter_bytes + max(found.largest_op_bytes, found.input_bytes)
    if settings.device.type == "cuda":
        there = torch.cuda.get_device_properties(settings.device).total_memory
    else:
        there = _host_memory()
        # weights and input are made in float32 and converted
        factor = 4 // settings.torch_dtype.itemsize
        needed = max(needed, factor * (found.parameter_bytes + found.input_bytes))
    if needed > there:
        raise OutOfMemoryError(
            f"{display_name(choice)}: out of memory on {settings.device}: batch {settings.batch_size} at "
            f"{settings.image_size} px needs more than {needed / 1e9:.1f} GB, there are {there / 1e9:.1f} GB",
            MEMORY_HINT,
        )


def _host_memory() -> int:
    limits = [psutil.virtual_memory().available]
    for path in _CGROUP_LIMITS:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):
            continue
    return min(limits)
