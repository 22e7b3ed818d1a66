"""Resolves the settings: every preset filled in for the device in use, every value checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from analyzer.capture.environment import resolve_device
from analyzer.errors import ConfigError, UnsupportedError
from analyzer.schema.settings import ATTENTION, COMPILE, COUNTERS, INPUTS, LAYOUTS, CaptureSettings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_ALIASES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16", "float": "float32"}
TF32 = "tf32"
"""A dtype to ask for: tensors of float32, whose products and convolutions may run as TF32."""
_CPU_ATTENTION = ("auto", "flash", "math")
"""torch has no other implementation of attention for a CPU: the others, asked for there, end in "No viable backend"."""
AUTOCAST_DTYPES = ("bfloat16", "float16")
"""What torch.autocast may cast to on both a CPU and a GPU."""
_IMAGE_SIZE = 224
_LIMIT = 1 << 31


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings without a gap. ``measure_min_s``: the untraced pass goes on that long, also beyond ``iterations``.

    ``dtype`` is a name of DTYPES or TF32; with ``autocast`` it is what torch.autocast casts to. ``attention`` is auto for a
    family that has none. ``input`` is one of INPUTS. ``cudnn_benchmark`` is None where nothing is to be set.
    """

    device: torch.device
    batch_size: int
    image_size: int
    dtype: str
    iterations: int
    measure_min_s: float
    traced_steps: int
    repeats: int
    warmup_max_s: float
    warmup_min_s: float
    warmup_min_iterations: int
    steady_pct: float
    threads: int | None
    seed: int
    sample_period_s: float
    calibrate: str
    stacks: bool = False
    layout: str = "contiguous"
    attention: str = "auto"
    compile: str = "off"
    autocast: bool = False
    input: str = "device"
    cudnn_benchmark: bool | None = None
    notes: tuple[str, ...] = ()

    @property
    def torch_dtype(self) -> torch.dtype:
        """Return the dtype of weights and input as torch has it."""
        return DTYPES[self.tensor_dtype]

    @property
    def tensor_dtype(self) -> str:
        """Return the name of the element type of weights and input: float32 for TF32 and under autocast."""
        return "float32" if self.autocast or self.dtype == TF32 else self.dtype


def dtype_name(name: str, also: tuple[str, ...] = ()) -> str:
    """Return the full name of a dtype; ``also`` are further names that an error message lists.

    Raises:
        ConfigError: none of float32, bfloat16, float16 or their short forms.
    """
    text = str(name).strip().lower().removeprefix("torch.")
    text = _ALIASES.get(text, text)
    if text not in DTYPES:
        raise ConfigError(f"unknown dtype {name}", f"use dtype={', '.join((*DTYPES, *also))}")
    return text


def resolve(settings: CaptureSettings, family: str = "") -> Resolved:
    """Return ``settings`` with the presets: CUDA batch 32 in bfloat16, CPU batch 1 in float32 (autocast: bfloat16), 224 px.

    ``family`` of the model: for ``cnn`` the setting ``attention`` means nothing and comes back as auto.

    Raises:
        ConfigError: a value that cannot be meant, or values that contradict each other.
        UnsupportedError: a dtype, an attention implementation or a copy that the device does not have.
        DeviceError: the device is not there.
    """
    _check(settings)
    device = resolve_device(settings.device)
    on_gpu = device.type == "cuda"
    dtype, notes = _dtype(settings, device)
    attention = "auto" if family == "cnn" else settings.attention
    if not on_gpu:
        notes += _on_cpu(settings, attention)
    preset_iterations = 30 if on_gpu else 12
    return Resolved(
        device=device,
        batch_size=settings.batch_size if settings.batch_size is not None else (32 if on_gpu else 1),
        image_size=settings.image_size if settings.image_size is not None else _IMAGE_SIZE,
        dtype=dtype,
        iterations=settings.iterations if settings.iterations is not None else preset_iterations,
        # Power, clocks and GPM are averages over 100 ms and more: a GPU pass of 0.1 s would have none.
        measure_min_s=2.0 if on_gpu and settings.iterations is None else 0.0,
        traced_steps=settings.traced_steps,
        repeats=settings.repeats,
        warmup_max_s=settings.warmup_max_s,
        warmup_min_s=min(1.0, settings.warmup_max_s) if on_gpu else 0.0,
        warmup_min_iterations=settings.warmup_min_iterations,
        steady_pct=5.0 if on_gpu else 10.0,
        threads=settings.threads,
        seed=settings.seed,
        sample_period_s=settings.sample_period_s,
        calibrate=settings.calibrate,
        stacks=settings.stacks,
        layout=settings.layout,
        attention=attention,
        compile=settings.compile,
        autocast=settings.autocast,
        input=settings.input,
        cudnn_benchmark=settings.cudnn_benchmark if on_gpu else None,
        notes=tuple(notes),
    )


def _dtype(settings: CaptureSettings, device: torch.device) -> tuple[str, list[str]]:
    """Return the dtype in force, and a note where the preset is not the usual one.

    Raises:
        ConfigError: there is no such dtype, or none that autocast could cast to.
        UnsupportedError: the device does not have it.
    """
    if settings.dtype is not None:
        dtype = _requested_dtype(settings.dtype, device)
        if settings.autocast and dtype not in AUTOCAST_DTYPES:
            what = f"autocast=true keeps weights in float32 and casts to dtype, and dtype={dtype} leaves nothing to cast to"
            raise ConfigError(what, f"use dtype={' or dtype='.join(AUTOCAST_DTYPES)}, or autocast=false")
        return dtype, []
    if device.type != "cuda":
        return ("bfloat16" if settings.autocast else "float32"), []
    if torch.cuda.get_device_capability(device) < (8, 0) and torch.version.hip is None:
        return "float16", ["float16 instead of bfloat16, which this device has no units for; name another with dtype="]
    return "bfloat16", []


def _on_cpu(settings: CaptureSettings, attention: str) -> list[str]:
    """Return a note on each setting that means nothing on a CPU.

    Raises:
        UnsupportedError: a setting that a CPU cannot meet.
    """
    if attention not in _CPU_ATTENTION:
        what = f"attention={attention} does not exist on a CPU"
        raise UnsupportedError(what, f"use attention={', '.join(_CPU_ATTENTION)}")
    if settings.input == "host":
        what = "input=host copies each batch to the device, and a model on a CPU reads it where it lies"
        raise UnsupportedError(what, "leave input=host away, or choose a GPU with device=cuda")
    if settings.cudnn_benchmark is None:
        return []
    return [f"cudnn_benchmark={str(settings.cudnn_benchmark).lower()} means nothing on a CPU, which runs no cuDNN"]


def _requested_dtype(name: str, device: torch.device) -> str:
    if str(name).strip().lower() != TF32:
        return dtype_name(name, also=(TF32,))
    if device.type != "cuda":
        raise UnsupportedError(f"dtype=tf32 needs an NVIDIA GPU, and {device} is none", "use dtype=float32")
    if torch.version.hip is not None:
        raise UnsupportedError(f"dtype=tf32 needs an NVIDIA GPU, and {device} is one of AMD", "use dtype=float32")
    if (found := torch.cuda.get_device_capability(device)) < (8, 0):
        what = f"dtype=tf32 needs compute capability 8.0, and {device} has {found[0]}.{found[1]}"
        raise UnsupportedError(what, "use dtype=float32 or dtype=float16")
    return TF32


def _check(settings: CaptureSettings) -> None:
    counts = {
        "batch_size": settings.batch_size,
        "image_size": settings.image_size,
        "iterations": settings.iterations,
        "traced_steps": settings.traced_steps,
        "repeats": settings.repeats,
        "warmup_min_iterations": settings.warmup_min_iterations,
        "threads": settings.threads,
    }
    for name, value in counts.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < _LIMIT:
            raise ConfigError(f"{name}={value} is not a whole number from 1 to {_LIMIT - 1}", f"for example {name}=8")
    for name, seconds, least in (
        ("warmup_max_s", settings.warmup_max_s, 0.0),
        ("sample_period_s", settings.sample_period_s, 0.01),
    ):
        if not isinstance(seconds, (int, float)) or not math.isfinite(seconds) or seconds < least:
            raise ConfigError(f"{name}={seconds} is not a time in seconds", f"use {name}={max(least, 0.1)} or more")
    if isinstance(settings.seed, bool) or not isinstance(settings.seed, int) or not 0 <= settings.seed < 1 << 63:
        raise ConfigError(f"seed={settings.seed} is not a whole number from 0 on", "use seed=0")
    for name, given, allowed in (
        ("calibrate", settings.calibrate, ("auto", "force", "off")),
        ("layout", settings.layout, LAYOUTS),
        ("attention", settings.attention, ATTENTION),
        ("compile", settings.compile, COMPILE),
        ("counters", settings.counters, COUNTERS),
        ("input", settings.input, INPUTS),
    ):
        if given not in allowed:
            raise ConfigError(f"{name}={given} is unknown", f"use {name}={', '.join(allowed)}")
