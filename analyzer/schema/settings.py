"""What to run, validated once by the command line and passed down unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """One model to run.

    ``family`` is the config group it came from (``vit`` or ``cnn``); ``name`` a timm name; ``factory``
    (``package.module:function``) takes its place for one's own ``torch.nn.Module``; ``options`` go to either.
    """

    family: str
    name: str
    label: str
    factory: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """How to run a model. ``None`` means: the preset of the device in use."""

    device: str = "auto"
    batch_size: int | None = None
    image_size: int | None = None
    dtype: str | None = None
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

    ``runs`` are paths or globs as they were given; ``gpu_spec`` is the user's own sheet; ``gpus`` are keys of the database.
    """

    task: str
    models: tuple[ModelChoice, ...]
    capture: CaptureSettings
    runs: tuple[str, ...] = ()
    selection: Selection = Selection()
    gpu_spec: Path | None = None
    gpus: tuple[str, ...] = ()
    reports: Path = Path("reports")
    out: Path | None = None
    json: bool = False
    dry_run: bool = False
    strict: bool = False
