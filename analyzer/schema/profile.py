"""What the host did, what memory was held, and who called: the views that people had from TensorBoard's profiler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

TREE_COLUMNS = ("path", "name", "depth", "calls", "host_self_us", "host_total_us", "device_self_us", "device_total_us")
"""Columns of a tree, in pre-order, children longest first. ``path`` is unique. Sums over the window. ``host_*`` is time of the
calling thread inside the node, without (self) and with its children; ``device_*`` time of the kernels that it launched, itself
or below. On a CPU run the device columns are NaN."""

STEP_PARTS = ("kernel", "memcpy", "memset", "runtime", "dataloader", "host", "other")
"""What a step is made of, each moment counted once, for the first of these that happens in it: a kernel, copy or fill runs; the
host is in the runtime or driver; it waits for a data loader; it runs operators; nothing of these."""


@dataclass(frozen=True, slots=True, eq=False)
class HostView:
    """Trees and steps of one run.

    ``operators`` and ``modules``: TREE_COLUMNS, calls with the same path of names taken together. ``stacks``: columns
    ``stack`` (innermost frame first, paths trimmed, joined by a newline), ``calls, host_us, device_us``, longest first.
    ``steps``: ``step`` and a column ``<part>_us`` per STEP_PARTS, one row per profiler step (one for the window without steps).
    ``left_out`` says what was cut off, each a sentence. ``silent`` names what the trace cannot show, by table, with the reason.
    """

    operators: pd.DataFrame
    modules: pd.DataFrame
    stacks: pd.DataFrame
    steps: pd.DataFrame
    left_out: tuple[str, ...] = ()
    silent: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class MemoryProfile:
    """Memory of one device over the trace, from the allocator's ``[memory]`` events. Bytes.

    ``curve``: columns ``time_ns, allocated_bytes, reserved_bytes`` (the last NaN where not recorded), one row per event.
    ``is_absolute``: ``allocated_bytes`` is the allocator's own total; otherwise it starts at 0 with the trace, and only tells
    changes. ``peak_ns`` and ``peak_bytes``: the highest point. ``at_peak``: what was allocated within the trace and still held
    at the peak, columns ``module, op, bytes, blocks``, largest first; ``before_bytes`` is held since before the trace (0 where
    not known). ``transient_bytes``: peak minus the lowest point before it in the same step. ``reason`` says why ``at_peak`` is
    empty although something is held.
    """

    device: str
    curve: pd.DataFrame
    is_absolute: bool
    peak_ns: int
    peak_bytes: float
    at_peak: pd.DataFrame
    before_bytes: float
    transient_bytes: float
    reason: str = ""
