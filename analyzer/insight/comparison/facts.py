"""The facts of all runs: which are common, which differ, and which differences make times hard to compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analyzer.format import count, percent, size
from analyzer.insight.comparison.basis import is_training, is_untraced
from analyzer.schema.comparison import FactRow, Topic
from analyzer.schema.digest import Digest
from analyzer.schema.run import RunFacts, RunSettings

UNKNOWN = "unknown"
"""What stands where a run does not tell; it is no difference."""

POWER_CAP = "power cap (share of the default)"

_SDPA = "_scaled_dot_product_"
_NOT_RECORDED = "dtype not recorded"


@dataclass(frozen=True, slots=True)
class _Fact:
    """One fact: how a run tells it (empty where it does not), and why a difference makes times harder to compare."""

    topic: Topic
    name: str
    read: Callable[[Digest], object]
    warning: str = ""


def compare_facts(runs: Sequence[Digest]) -> tuple[FactRow, ...]:
    """Return the facts that at least one run tells, in a fixed order."""
    rows = []
    for fact in _FACTS:
        values = tuple(str(value) if (value := fact.read(run)) not in (None, "") else UNKNOWN for run in runs)
        known = {value for value in values if value != UNKNOWN}
        if known:
            differs = len(known) > 1
            rows.append(FactRow(fact.topic, fact.name, values, differs, fact.warning if differs else ""))
    return tuple(rows)


def _of_run(read: Callable[[RunFacts], object]) -> Callable[[Digest], object]:
    return lambda run: read(run.facts) if run.facts else None


def _setting(read: Callable[[RunSettings], object]) -> Callable[[Digest], object]:
    return lambda run: read(run.facts.settings) if run.facts else None


def _version(*names: str) -> Callable[[Digest], object]:
    return lambda run: next((run.versions[name] for name in names if name in run.versions), None)


def _runtime(run: Digest) -> str | None:
    return next(
        (f"{name} {run.versions[key]}" for key, name in (("cuda", "CUDA"), ("hip", "ROCm")) if key in run.versions), None
    )


def dtype_of(run: Digest) -> str | None:
    """Return the element type of a run, None where its trace does not tell."""
    return None if run.dtype == _NOT_RECORDED else run.dtype


def _attention(run: Digest) -> str | None:
    """Return what implements attention: as recorded, else as the operators of a trace are called."""
    recorded = run.facts.model.attention_backend if run.facts else None
    if recorded:
        return recorded
    ops = run.groups.loc[run.groups["kind"] == "attention", "op"].astype(str)
    found = sorted({op.split(_SDPA, 1)[1] for op in ops if _SDPA in op})
    return " and ".join(found) if found else None


def _on_off(value: bool | None, on: str, off: str) -> str | None:
    return None if value is None else on if value else off


def _power_cap(run: Digest) -> str | None:
    limit, default = run.device.power_limit_w, run.device.power_default_w
    return percent(100 * limit / default) if limit and default else None


def _held_down(run: Digest) -> str | None:
    seen = run.telemetry
    return None if seen is None or seen.sm_clock_mhz.value is None else ", ".join(seen.throttled) or "nothing"


def _memory(run: Digest) -> str | None:
    return size(run.device.memory_bytes) if run.device.memory_bytes else None


def _multiprocessors(run: Digest) -> str | None:
    return count(run.device.sm_count) if run.device.sm_count else None


def _window(run: Digest) -> str:
    return "one batch" if run.batches else "the whole trace"


def _timed(run: Digest) -> str:
    return "without the profiler" if is_untraced(run) else "with the profiler"


def _threads(run: Digest) -> object:
    if run.facts is not None and run.facts.settings.threads is not None:
        return run.facts.settings.threads if run.device.type == "cpu" else None
    return run.device.threads if run.device.type == "cpu" else None


_FACTS: tuple[_Fact, ...] = (
    _Fact("model", "model", _of_run(lambda facts: facts.model.label)),
    _Fact("model", "name of the model", _of_run(lambda facts: facts.model.factory or facts.model.name)),
    _Fact("model", "family", lambda run: run.family),
    _Fact("model", "parameters", _of_run(lambda facts: count(facts.model.parameters))),
    _Fact("model", "training or inference", lambda run: _on_off(is_training(run), "training", "inference"),
          "a training step runs the model backwards too, and an optimizer"),
    _Fact("settings", "batch size", lambda run: run.batch_size and count(run.batch_size),
          "batches of different sizes hold different amounts of work; divide by the batch size to compare images"),
    _Fact("settings", "image size", lambda run: run.image_size and f"{count(run.image_size)} px",
          "images of different sizes are different amounts of work"),
    _Fact("settings", "longest sequence", lambda run: run.tokens and f"{count(run.tokens)} tokens"),
    _Fact("settings", "element type", dtype_of,
          "element types differ in their bytes and in the units that compute with them, which alone changes times"),
    _Fact("settings", "autocast", _setting(lambda s: _on_off(s.autocast, "on", "off")),
          "under autocast each batch casts the weights anew"),
    _Fact("settings", "input lies on the", _setting(lambda s: s.input),
          "a batch on the host is copied to the device as a part of its time"),
    _Fact("settings", "TF32 in matrix products", _setting(lambda s: s.matmul_precision and _on_off(
          s.matmul_precision != "highest", "allowed", "off")),
          "float32 runs several times as fast on GPUs that may take TF32 instead"),
    _Fact("settings", "TF32 in convolutions", _setting(lambda s: _on_off(s.convolution_tf32, "allowed", "off")),
          "float32 runs several times as fast on GPUs that may take TF32 instead"),
    _Fact("settings", "memory layout", _setting(lambda s: s.memory_format)),
    _Fact("settings", "execution", _setting(lambda s: s.execution)),
    _Fact("settings", "attention", _attention),
    _Fact("settings", "cudnn.benchmark", _setting(lambda s: _on_off(s.cudnn_benchmark, "on", "off"))),
    _Fact("settings", "CPU threads", _threads, "runs on different numbers of CPU threads"),
    _Fact("device", "device", lambda run: run.device.name if run.device.type == "cpu" or run.device.vendor else None),
    _Fact("device", "datasheet", lambda run: run.hardware.name if run.hardware.key else None),
    _Fact("device", "vendor", lambda run: run.device.vendor),
    _Fact("device", "architecture", lambda run: run.hardware.architecture),
    _Fact("device", "compute capability", lambda run: run.device.compute_capability),
    _Fact("device", "multiprocessors", _multiprocessors),
    _Fact("device", "memory", _memory),
    _Fact("device", POWER_CAP, _power_cap,
          "a lower power cap holds the clocks down, so the same device is slower"),
    _Fact("device", "clocks held down by", _held_down),  # a caveat of each run warns
    _Fact("software", "torch", _version("torch"), "another version of PyTorch may call other kernels"),
    _Fact("software", "timm", _version("timm")),
    _Fact("software", "CUDA or ROCm", _runtime),
    _Fact("software", "cuDNN", _version("cudnn")),
    _Fact("software", "driver", _version("driver")),
    _Fact("software", "CUDA that the driver supports", lambda run: run.trace_versions.get("cuda_driver")),
    _Fact("software", "python", _version("python")),
    _Fact("software", "system", _version("system")),
    _Fact("trace", "recorded by", lambda run: "another program (a bare trace)" if run.facts is None else "analyzer"),
    _Fact("trace", "times cover", _window,
          "the time of a whole trace holds whatever ran in it and is not the time of a batch"),
    _Fact("trace", "timed", _timed, "times with the profiler include its own cost, untraced ones do not"),
    _Fact("trace", "steps", lambda run: run.steps and count(run.steps)),
)  # fmt: skip
