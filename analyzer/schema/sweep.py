"""A sweep: its points, what came of each, and the figures that a crossover report shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from analyzer.schema.evidence import Quantity
from analyzer.schema.run import Count, DeviceFacts, Text

POINT_FORMAT_VERSION = 1
MANIFEST_FILE, JOBS, POINTS, SWEEPS = "manifest.json", "jobs", "points", "sweeps"
MAX_RECORD_BYTES, MAX_MANIFEST_BYTES = 4 << 20, 64 << 20
"""Writers refuse to write more, readers to read more. A job in a manifest takes a few hundred bytes."""
MAX_NESTING = 16
"""How deep the options of a model may be nested."""
KEY = re.compile(r"[0-9a-f]{32}")
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,254}")
"""The name of a run directory in a record: it leads nowhere but beside ``points/``."""

Status = Literal["measured", "out_of_memory", "unsupported", "failed"]
"""``unsupported``: the model, device or library refuses these settings. ``failed``: a crash or anything unforeseen; it is tried
again when the sweep is repeated, the other three are not."""


class PointSetting(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a point: one model under one set of settings, every preset resolved."""

    model: Text
    family: Text
    label: Text
    batch_size: Count
    image_size: Count
    dtype: Text
    layout: str = "contiguous"
    attention: str = "auto"
    compile: str = "off"
    autocast: bool = False
    input: str = "device"
    cudnn_benchmark: bool = False
    threads: int | None = None
    seed: int = 0
    factory: str | None = None
    options: dict[str, Any] = {}


class PointRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one point: ``traces/points/<key>.json``.

    ``run`` is the name of the run directory beside ``points/``, None unless ``status`` is ``measured``; ``reason`` and ``hint``
    are those of the error. ``seconds`` is how long the point took. ``measurement`` says how it was measured: the numbers of
    iterations, repeats and traced steps, which are part of the key too.
    """

    format_version: int
    key: Text
    setting: PointSetting
    device: DeviceFacts
    versions: dict[str, str]
    status: Status
    measurement: dict[str, Any] = {}
    reason: str = ""
    hint: str = ""
    run: str | None = None
    seconds: float = 0.0
    created_utc: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """``manifest.json`` of a sweep: its jobs, as the overrides of each, ``models`` of each, and ``price`` per hour.

    ``models`` are labels, empty where a job could not be read, and absent in older files.
    """

    format_version: int = POINT_FORMAT_VERSION
    name: str = ""
    jobs: list[list[str]] = []
    models: list[list[str]] = []
    price: float | None = None
    created_utc: str = ""


class JobFile(msgspec.Struct, frozen=True, kw_only=True):
    """``jobs/<number>.json``: the keys of the points of one job, in the order of its models, or why there are none."""

    keys: list[str] = []
    error: str = ""


def depth(value: Any, limit: int = MAX_NESTING) -> int:
    """Return how deep lists and tables are nested in ``value``, ``limit`` + 1 at most."""
    if limit < 0 or not isinstance(value, (dict, list, tuple)):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max((depth(one, limit - 1) for one in inner), default=0)


@dataclass(frozen=True, slots=True)
class PointFigures:
    """The figures of a measured point. ``figures`` without a value say why in their ``source``.

    ``latency_ms`` is of one batch, untraced; ``flop`` and ``bytes_compulsory`` are per image; ``images_per_j`` per joule,
    ``images_per_price`` per unit of currency; ``peak_bytes`` is the peak of memory; ``tokens`` is None where no attention ran.
    ``samples``: the untraced latencies of each process in ms, for intervals of what is made of several points.
    ``modelled_pct``: share of the traced time in operators with a work model. ``tf32_convolutions``: whether a run in float32
    allowed TF32 in its convolutions, as torch has it by default.
    """

    latency_ms: Quantity
    images_per_s: Quantity
    peak_bytes: Quantity
    flop: Quantity
    bytes_compulsory: Quantity
    images_per_j: Quantity
    images_per_price: Quantity
    tokens: int | None = None
    attention_ran: str | None = None
    samples: tuple[tuple[float, ...], ...] = ()
    parameters: int | None = None
    modelled_pct: float | None = None
    tf32_convolutions: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """A point with its figures; ``figures`` is None unless it was measured and its run directory can be read.

    ``problem`` says why the figures of a measured point could not be read.
    """

    record: PointRecord
    figures: PointFigures | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Everything that a crossover report is made from.

    ``missing`` are points that the sweep was to have and nobody measured yet, as overrides. ``price`` is per hour.
    """

    name: str
    points: tuple[Point, ...]
    missing: tuple[str, ...] = ()
    price: float | None = None
