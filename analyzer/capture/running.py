"""A model ready to run: built, moved, with its input, in inference mode; everything freed afterwards."""

from __future__ import annotations

import dataclasses
import functools
import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from analyzer.capture.arguments import Arguments, spread
from analyzer.capture.environment import cpu_threads
from analyzer.capture.failures import MEMORY_HINT, explained
from analyzer.capture.meta import Inspection
from analyzer.capture.modes import casting, compiled, feeding, in_force, place
from analyzer.capture.presets import Resolved
from analyzer.capture.process_state import unchanged
from analyzer.capture.workload import build, display_name, make_input, own_failures
from analyzer.errors import OutOfMemoryError
from analyzer.schema.settings import ModelChoice

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass
class Ready:
    """A model on its device. ``step`` runs one batch as the settings say.

    ``input_shape`` is ``(N, C, H, W)``, or the shape of the first tensor of an example input; ``image_size`` is the height and
    width of its images, None where they differ or there are none. ``compiled_as`` returns a step like it for another mode of
    torch.compile, which compiles when it is first called.
    """

    model: nn.Module
    step: Callable[[], object]
    input_shape: tuple[int, ...]
    parameters: int
    image_size: int | None
    compiled_as: Callable[[str], Callable[[], object]]

    @property
    def batch_size(self) -> int:
        """Return the number of inputs of one call."""
        return self.input_shape[0]


@contextmanager
def prepared(choice: ModelChoice, settings: Resolved) -> Iterator[Ready]:
    """Build the model and yield it ready; on leaving, free it and restore what it set in the process.

    Raises:
        AnalyzerError: the model cannot be built or run here, with a hint; also for what the block raises.
    """
    device = settings.device
    name = display_name(choice)
    try:
        quiet, told, kept = warnings.catch_warnings(), explained(name, str(device), settings.dtype), unchanged()
        with kept, cpu_threads(settings.threads), quiet, told, in_force(settings), torch.inference_mode(), own_failures(choice):
            warnings.simplefilter("ignore")
            if device.type == "cuda":
                torch.cuda.set_device(device)
            torch.manual_seed(settings.seed)
            built = build(choice, settings.batch_size, settings.image_size)
            _insist(settings)
            model = built.model
            parameters = sum(parameter.numel() for parameter in model.parameters())
            model = place(model, settings)
            lies = torch.device("cpu") if settings.input == "host" else settings.device
            batch = place(make_input(built, choice, settings.batch_size, settings.image_size), settings, lies)
            compiled_as = functools.partial(_step, model, batch, settings)
            step = compiled_as(settings.compile)
            ready = Ready(model, step, batch.shape, parameters, batch.image_size, compiled_as)
            del built, model, batch, step, compiled_as  # what is left to hold them is ``ready``
            try:
                yield ready
            finally:
                ready.step, ready.compiled_as, ready.model = _gone, _gone, nn.Identity()
    finally:
        release(device)


def _insist(settings: Resolved) -> None:
    """Set again what was asked for and a factory may have changed."""
    if settings.threads is not None and torch.get_num_threads() != settings.threads:
        torch.set_num_threads(settings.threads)
    if settings.cudnn_benchmark is not None:
        torch.backends.cudnn.benchmark = settings.cudnn_benchmark


def _step(model: nn.Module, batch: Arguments, settings: Resolved, mode: str) -> Callable[[], object]:
    call = compiled(model, dataclasses.replace(settings, compile=mode))
    return feeding(casting(spread(call), settings), batch, settings)


def _gone(*_: object) -> Any:
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
            f"{display_name(choice)}: out of memory on {settings.device}: a batch of shape {list(found.shape)} "
            f"needs more than {needed / 1e9:.1f} GB, there are {there / 1e9:.1f} GB",
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
