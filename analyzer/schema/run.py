"""``run.json``: the facts of one run, typed. Fields with defaults may be absent, so older files stay readable."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[float, Meta(gt=0, lt=1e15)]
Count = Annotated[int, Meta(ge=1, lt=2**40)]
Text = Annotated[str, Meta(min_length=1, max_length=1000)]

RUN_FORMAT_VERSION = 1
NVIDIA, AMD = "NVIDIA", "AMD"
"""Vendors of GPUs, spelled as in the datasheets; capture, reader and metrics must agree on them."""


class DeviceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The device that ran the model. Sizes in bytes, clocks in MHz, power in W; None where not known."""

    type: Literal["cuda", "cpu"]
    name: Text
    vendor: str | None = None
    index: int | None = None
    compute_capability: str | None = None
    sm_count: int | None = None
    memory_bytes: int | None = None
    l1_bytes: int | None = None
    l2_bytes: int | None = None
    l3_bytes: int | None = None
    clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    memory_bus_bits: int | None = None
    cores: int | None = None
    threads: int | None = None
    power_limit_w: float | None = None
    power_default_w: float | None = None


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The model that ran. ``input_shape`` is ``[N, C, H, W]``, or the shape of the first tensor of a factory's example input.

    ``weights`` is the name of the file of a state dict, None for the weights that the model is made with.
    """

    name: Text
    family: Text
    label: Text
    parameters: int
    input_shape: tuple[int, ...]
    factory: str | None = None
    attention_backend: str | None = None
    weights: str | None = None


class RunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in force, every preset resolved.

    ``dtype``: the element type of weights and input, or ``tf32``: those are float32 then, and products and convolutions may run
    as TF32. ``convolution_tf32``: whether cuDNN may use TF32 for float32; None where that does not arise. ``attention`` is what
    was asked for (``attention_backend`` of the model is what ran), None where that means nothing; ``compile`` the mode of
    ``torch.compile`` or ``off``; ``execution`` says the same in words. ``autocast``: weights are float32 and operators that
    gain from it run in ``dtype``. ``input``: where a batch lies before a step, ``device`` or ``host`` (the step copies it
    then). ``image_size``: height and width of the images in pixels, None where they differ or the input holds no images
    ``[N, C, H, W]``; ``input_shape`` of the model says what it holds.
    """

    batch_size: Count
    image_size: Count | None
    dtype: Text
    iterations: Count
    traced_steps: Count
    repeats: Count = 1
    threads: int | None = None
    seed: int = 0
    matmul_precision: str | None = None
    memory_format: str | None = None
    execution: str | None = None
    cudnn_benchmark: bool | None = None
    convolution_tf32: bool | None = None
    attention: str | None = None
    compile: str = "off"
    autocast: bool = False
    input: str = "device"


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """A measured limit of the device: ``copy`` in GB/s (read + write counted) or ``matmul`` in TFLOP/s.

    ``value`` is the median of ``n`` timings, ``low`` and ``high`` their 10th and 90th percentile.
    """

    name: str
    unit: str
    dtype: str
    value: Positive
    low: Positive
    high: Positive
    n: Count
    size: str = ""
    measured_utc: str = ""


class PassFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One pass of the capture: what ran when, in Unix nanoseconds."""

    name: str
    start_unix_ns: int
    end_unix_ns: int
    steps: int = 0
    note: str = ""


class WarmupFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How the warm-up ended. ``spread_pct`` is the relative spread of its last iterations."""

    iterations: int
    steady: bool
    spread_pct: float
    note: str = ""


class MemoryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Peak memory of the untraced pass; ``kind`` says what was counted."""

    peak_bytes: int
    kind: str


class SourceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a source of telemetry was there, and why not."""

    available: bool
    reason: str = ""


class TelemetryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the sampler could read.

    ``looped``: whether the model was run for some seconds without a gap so that GPM had something to average (the pass of that
    name), and why not; None in runs of versions that had no such pass.
    """

    period_s: float
    samples: int
    psutil: SourceFacts
    nvml: SourceFacts
    gpm: SourceFacts
    looped: SourceFacts | None = None


class CounterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Whether hardware counters were read in a pass of their own, and why not.

    ``provider`` is ``ncu``; ``version`` its own. ``passes``: how often the model ran under it, one group of counters each.
    ``requested`` are the names asked for, ``missing`` those that did not come back.
    """

    available: bool
    reason: str = ""
    hint: str = ""
    provider: str = "ncu"
    version: str = ""
    passes: int = 0
    cache_control: str = ""
    requested: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of ``run.json``. See ``docs/files.md``."""

    format_version: int
    name: str
    created_utc: str
    device: DeviceFacts
    model: ModelFacts
    settings: RunSettings
    versions: dict[str, str]
    warmup: WarmupFacts
    memory: MemoryFacts | None = None
    telemetry: TelemetryFacts | None = None
    counters: CounterFacts | None = None
    ceilings: tuple[Ceiling, ...] = ()
    passes: tuple[PassFacts, ...] = ()
    warnings: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def shown_name(file: str) -> str:
    """Return ``file`` without the host that torch's tensorboard_trace_handler puts first (``HOST_PID.TIME.pt.trace.json``)."""
    return re.sub(r"^.+_\d+\.(\d{10,}\.pt\.trace\.json)", r"trace-\1", file)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Where the files of one run are. ``facts`` is None for a bare trace that somebody else recorded.

    ``compiled``: what torch.compile made of the model. ``ungraphed``: the trace of one step of the same compiled code without
    CUDA graphs.
    """

    name: str
    trace: Path
    facts: RunFacts | None = None
    ops: Path | None = None
    timings: Path | None = None
    samples: Path | None = None
    counters: Path | None = None
    compiled: Path | None = None
    ungraphed: Path | None = None

    @property
    def trace_name(self) -> str:
        """Return the name of the trace file as a report may show it."""
        return shown_name(self.trace.name)
