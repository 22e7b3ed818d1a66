"""What to run, validated once by the command line and passed down unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LAYOUTS = ("contiguous", "channels_last")
ATTENTION = ("auto", "flash", "efficient", "cudnn", "math")
COUNTERS = ("auto", "ncu", "none")
INPUTS = ("device", "host")
COMPILE = ("off", "default", "reduce-overhead", "max-autotune")


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """One model to run.

    ``family`` is the config group it came from (``vit`` or ``cnn``); ``name`` a timm name; ``factory``
    (``package.module:function``) takes its place for one's own ``torch.nn.Module``; ``options`` go to either. ``weights`` is
    the file of a state dict, None for random weights.
    """

    family: str
    name: str
    label: str
    factory: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """How to run a model. ``None`` means: the preset of the device in use.

    ``layout``: one of LAYOUTS. ``attention``: one of ATTENTION; it says which implementations PyTorch may choose from for the
    attention of a ViT. ``compile``: one of COMPILE, the modes of ``torch.compile``. ``counters``: one of COUNTERS.
    ``autocast``: weights stay float32 and operators that gain from it run in ``dtype``. ``input``: one of INPUTS, where a batch
    lies before a step. ``cudnn_benchmark``: whether cuDNN tries its algorithms; None leaves torch's choice.
    """

    device: str = "auto"
    batch_size: int | None = None
    image_size: int | None = None
    dtype: str | None = None
    layout: str = "contiguous"
    attention: str = "auto"
    compile: str = "off"
    autocast: bool = False
    input: str = "device"
    cudnn_benchmark: bool | None = None
    iterations: int | None = None
    traced_steps: int = 5
    stacks: bool = False
    repeats: int = 3
    warmup_max_s: float = 20.0
    warmup_min_iterations: int = 5
    threads: int | None = None
    seed: int = 0
    sample_period_s: float = 0.12
    calibrate: str = "auto"
    counters: str = "auto"
    out_root: Path = Path("traces")
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of a trace that figures shall cover: profiler ``steps`` by number, or all of a user ``annotation``.

    ``rank`` picks one rank of several; ``max_expansion`` is how many times its size a packed file may unpack to.
    """

    steps: tuple[int, ...] | None = None
    annotation: str | None = None
    rank: int | None = None
    max_expansion: float = 100.0

    @property
    def is_part(self) -> bool:
        """Tell whether only a part of the time is asked for."""
        return self.steps is not None or self.annotation is not None


@dataclass(frozen=True, slots=True)
class Settings:
    """One job of the command line.

    ``runs`` and ``baseline`` are paths or globs as they were given; ``gpu_spec`` is the user's own sheet, ``counter_file``
    counters that belong to ``runs``; ``gpus`` and ``onto`` are keys of the database. ``price``: what the device costs per hour,
    in any currency. ``variants``: more ways to run the same models, after ``capture``, where a setting was given as a list
    (``attention=[flash,math]``). ``resume``: points of a sweep that are measured already are not measured again.
    ``min_effect_pct``: what a change must come to before the gate minds it.
    """

    task: str
    models: tuple[ModelChoice, ...]
    capture: CaptureSettings
    runs: tuple[str, ...] = ()
    selection: Selection = Selection()
    gpu_spec: Path | None = None
    counter_file: Path | None = None
    gpus: tuple[str, ...] = ()
    variants: tuple[CaptureSettings, ...] = ()
    baseline: tuple[str, ...] = ()
    onto: tuple[str, ...] = ()
    price: float | None = None
    resume: bool = True
    min_effect_pct: float = 5.0
    reports: Path = Path("reports")
    out: Path | None = None
    json: bool = False
    dry_run: bool = False
    strict: bool = False
