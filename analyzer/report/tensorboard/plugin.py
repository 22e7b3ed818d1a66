"""TensorBoard's profiler plugin, asked what it makes of a trace before TensorBoard is.

A trace that its parser cannot take would leave TensorBoard with a run that never finishes loading or has no views.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MEMORY_PER_BYTE = 12
"""Memory of the plugin's process per byte of the unpacked trace: 7 to 10 measured on traces of 7 to 21 MB, rounded up."""

_PROCESS_BYTES = 150 << 20


@dataclass(frozen=True, slots=True)
class PluginView:
    """What the plugin reads from a trace: times in microseconds, summed over all events; the views that it offers."""

    kernels: int
    kernel_us: float
    operators: int
    operator_device_us: float
    views: tuple[str, ...]


def memory_needed(trace_bytes: int) -> int:
    """Return about how many bytes of memory the plugin's process takes for a trace of ``trace_bytes`` unpacked.

    Approximation: the plugin holds the whole trace as Python objects; its memory is taken as proportional to the text.
    """
    return _PROCESS_BYTES + MEMORY_PER_BYTE * trace_bytes


def memory_here() -> int:
    """Return the physical memory of this machine in bytes, 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 0


def read_as_plugin(path: Path) -> PluginView | str:
    """Return what the plugin makes of the trace at ``path``, or why it cannot read it.

    The same parser and the same generator of views as in TensorBoard run here, without TensorBoard.
    """
    with _silence(), tempfile.TemporaryDirectory() as cache:
        try:
            from torch_tb_profiler.profiler.data import RunProfileData
            from torch_tb_profiler.profiler.run_generator import RunGenerator

            data = RunProfileData.parse("worker", None, str(path), cache)
            profile = RunGenerator("worker", None, data).generate_run_profile()
        except Exception as error:  # noqa: BLE001  frozen code of others, on data of others
            return f"{type(error).__name__}: {error}"[:300]
    kernels = data.kernel_stat
    return PluginView(
        kernels=0 if kernels is None else int(kernels["count"].sum()),
        kernel_us=0.0 if kernels is None else float(kernels["sum"].sum()),
        operators=len(data.op_list_groupby_name),
        operator_device_us=float(sum(op.self_device_duration for op in data.op_list_groupby_name)),
        views=tuple(view.display_name for view in profile.views),
    )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep to ourselves what the plugin prints and logs: up to a line per launch, and warnings of pandas."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
