"""How to record a trace better: a snippet for torch.profiler, and this program's own command, made for what is missing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from analyzer.insight.counter_support import counting
from analyzer.insight.reproduction import DTYPES, PLACEHOLDER, PROGRAM, recording_command
from analyzer.schema.examination import CAPABILITIES, Capability, Oddity, Recording
from analyzer.schema.run import AMD, RunFacts

_BY_PROFILER = {
    "kernels": "activities with ProfilerActivity.CUDA",
    "operators": "activities with ProfilerActivity.CPU",
    "launches": "activities with both CPU and CUDA",
    "shapes": "record_shapes=True",
    "strides": "record_shapes=True, in a recent torch",
    "modules": "with_stack=True",
    "stacks": "with_stack=True",
    "steps": "schedule=..., and profiler.step() after each batch",
    "memory": "profile_memory=True",
    "device": "a recent torch writes them by itself",
    "geometry": "a recent torch writes them by itself",
    "resources": "a recent torch writes them by itself",
    "clock": "a recent torch writes it by itself",
    "graphs": "a recent torch (not in 2.11; in 2.15)",
    "ranks": "torch.distributed initialised before the profiler starts",
}
_BY_US = {
    "latency": "always measured, in processes of their own",
    "telemetry": "always sampled; of a GPU through NVML",
    "calibration": "calibrate=auto",
    "operands": "always recorded",
    "modules": "always recorded",
    "memory": "always recorded",
    "steps": "always recorded",
    "stacks": "stacks=true",
    "counters": "counters=ncu, where Nsight Compute (ncu) may read them: task=doctor on that machine tells",
}
_ON_AMD = frozenset(("resources", "occupancy", "geometry"))
"""What no setting adds on AMD: ROCm's tracer does not write it."""

_UNWARM = frozenset(("loading", "allocating", "first_step"))
_LOST = frozenset(("launches_without_kernel", "kernels_without_launch", "damaged", "no_kernels"))
_LATE = frozenset(("launches_without_kernel", "no_kernels"))
"""Oddities of kernels that may have run after the recording ended."""
_EAGER_ALONE = frozenset(("modules", "launches", "operands"))
"""What a recording of compiled code cannot tell: it calls no modules, and its operators are made by the compiler."""
_GRAPHS = frozenset(("graph_kernels", "graph_kernels_aligned"))
_WRITTEN_BY_ITSELF = frozenset(("device", "geometry", "resources", "clock"))
_REMARKS = {
    "datasheet": "datasheet: give one with gpu_spec=FILE.yaml to task=doctor and task=report (docs/hardware.md)",
}
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}", re.ASCII)
_STEPS, _WARMUP = 5, 10


@dataclass(frozen=True, slots=True)
class Subject:
    """What was recorded, as far as a command can name it: 0 and an empty text where the trace does not tell.

    ``on_gpu`` tells whether anything in the trace speaks of a GPU, ``capability`` which compute capability that has.
    ``trace_name`` is that of a bare trace, empty for a run directory; ``device`` is what ``device=`` takes; ``facts`` are those
    of a run directory. ``distributed`` tells whether the job had several ranks.
    """

    on_gpu: bool
    trace_name: str
    capability: str | None
    device: str
    vendor: str | None
    facts: RunFacts | None
    images: int
    pixels: int
    dtype: str
    distributed: bool


def advise(found: Mapping[str, Capability], odd: tuple[Oddity, ...], subject: Subject) -> Recording:
    """Return how to record what ``found`` lacks, without what is ``odd``."""
    lacking = {key for key, capability in found.items() if capability.status in ("no", "partly")}
    statuses = {capability.status for capability in found.values()}
    codes = {oddity.code for oddity in odd}
    amd = subject.vendor == AMD
    by_profiler = {key: how for key, how in _BY_PROFILER.items() if key in lacking and not (amd and key in _ON_AMD)}
    if not subject.on_gpu or "kernels" in lacking:
        by_profiler.pop("device", None)  # no setting makes a trace tell the processor; a GPU it tells with its kernels
    if "memory" in by_profiler and found["memory"].status == "partly" and subject.on_gpu:
        by_profiler["memory"] = "profile_memory=True, with CUDA activities, in a recent torch"
    if codes & _GRAPHS and _all_of_graphs(found["launches"], odd):
        by_profiler.pop("launches", None)  # the remark on graphs says what helps
    bare = subject.facts is None
    compiled = subject.facts is not None and subject.facts.settings.compile != "off"
    ours = lacking - {"counters"} if amd else lacking
    own = {key: f"analyzer, {how}" for key, how in _BY_US.items() if key in ours}
    if compiled:
        own |= dict.fromkeys(sorted(_EAGER_ALONE & lacking), "analyzer, compile=off")
    missing = {**own, **by_profiler} if bare else {**by_profiler, **own}
    helps = bool(missing.keys() & by_profiler.keys()) or bool(codes & (_UNWARM | _LOST))
    return Recording(
        missing=tuple((found[key].name, missing[key]) for key in found if key in missing),
        snippet=_snippet(set(by_profiler), codes, subject) if bare and helps else "",
        command=_command(ours, subject) if own or helps else "",
        counting=_counting(subject) if "counters" in ours else "",
        remarks=tuple(_remarks(lacking, codes, amd=amd, compiled=compiled, cut_off="unknown" in statuses)),
    )


def _all_of_graphs(launches: Capability, odd: tuple[Oddity, ...]) -> bool:
    of_graphs = sum(oddity.count or 0 for oddity in odd if oddity.code in _GRAPHS)
    return (launches.total or 0) - (launches.count or 0) <= of_graphs


def _remarks(lacking: set[str], codes: set[str], *, amd: bool, compiled: bool, cut_off: bool) -> list[str]:
    found = [text for key, text in _REMARKS.items() if key in lacking]
    if amd and lacking & _ON_AMD:
        found.append("registers, shared memory and occupancy: traces of AMD GPUs carry none; rocprofv3 would tell")
    if amd and "counters" in lacking:
        found.append("hardware counters: those of AMD GPUs come from rocprofv3, which is not supported yet")
    if cut_off:
        found.append("the file is cut off: copy it again if it is whole elsewhere; what it lacks is known only then")
    if compiled and lacking & _EAGER_ALONE:
        found.append("compile=off records the eager model: other kernels than those of the compiled one, so keep both runs")
    if "graph_kernels" in codes and not compiled:
        found.append(
            "CUDA graphs: record one step of the same code without them (no torch.compile in mode reduce-overhead) and lay "
            "that trace beside this one as NAME.ungraphed.json.gz: replayed kernels then get its operators and modules"
        )
    if "training" in codes:
        found.append("training: for inference alone use model.eval() and torch.inference_mode()")
    return found


def _snippet(lacking: set[str], codes: set[str], subject: Subject) -> str:
    """Return a program that records all that torch.profiler can, with a remark where this trace lacks it."""
    gpu = subject.on_gpu or subject.device == "auto"
    activities = "ProfilerActivity.CPU, ProfilerActivity.CUDA" if gpu else "ProfilerActivity.CPU"
    lines = ["import torch", "from torch.profiler import ProfilerActivity, profile, schedule", ""]
    if lacking & {"device", "geometry", "resources", "strides", "clock", "graphs"}:
        lines.insert(0, "# with a recent torch: older ones do not write all of what is missing here")
    lines += [
        "model.eval()",
        "with torch.inference_mode():",
        f"    for _ in range({_WARMUP}):  # warm up before the profiler starts{' (missing here)' if codes & _UNWARM else ''}",
        "        model(batch)",
        "    with profile(",
        *_setting(f"activities=[{activities}],", lacking, ("kernels", "operators", "launches")),
        *_setting(f"schedule=schedule(wait=0, warmup=1, active={_STEPS}, repeat=1),", lacking, ("steps",)),
        *_setting("record_shapes=True,", lacking, ("shapes", "strides")),
        *_setting("profile_memory=True,", lacking, ("memory",)),
        *_setting("with_stack=True,", lacking, ("modules", "stacks")),
        "    ) as profiler:",
        f"        for _ in range({_STEPS + 1}):  # one that warms the profiler, {_STEPS} that are recorded",
        "            model(batch)",
    ]
    if gpu:
        said = "  # or kernels that run later are lost" if codes & _LATE else ""
        lines.append(f"            torch.cuda.synchronize(){said}")
    lines.append("            profiler.step()")
    if subject.distributed:
        lines.append('profiler.export_chrome_trace(f"trace-rank{torch.distributed.get_rank()}.json.gz")')
    else:
        lines.append('profiler.export_chrome_trace("trace.json.gz")')
    return "\n".join(lines)


def _setting(text: str, lacking: set[str], adds: tuple[str, ...]) -> list[str]:
    """Return the line of a setting, with what this trace lacks of what it ``adds`` above it."""
    missing = [CAPABILITIES[key] for key in adds if key in lacking]
    return [*([f"        # missing here: {', '.join(missing)}"] * bool(missing)), f"        {text}"]


def _counting(subject: Subject) -> str:
    """Return how to count the kernels of a program that is not this one; a name that a shell acts on is left to the reader."""
    stem = subject.trace_name.removesuffix(".gz").removesuffix(".json")
    beside = f"{stem}.counters.csv" if _PLAIN_NAME.fullmatch(stem) else "counters.csv"
    return counting(subject.capability, beside)


def _command(lacking: set[str], subject: Subject) -> str:
    """Return this program's own command for the same work; what the trace does not tell stays a placeholder in capitals."""
    facts = subject.facts
    added = ["calibrate=auto"] if "calibration" in lacking else []
    added += ["stacks=true"] if "stacks" in lacking else []
    added += ["counters=ncu"] if "counters" in lacking else []
    if facts is not None:
        added += ["compile=off"] if facts.settings.compile != "off" and lacking & _EAGER_ALONE else []
        replaced = tuple(f"{word.split('=', 1)[0]}=" for word in added)
        given = [word for word in recording_command(facts) if not word.lstrip("+").startswith(replaced or ("=",))]
    else:
        given = [PROGRAM, f"vit.factory={PLACEHOLDER}", "cnn=none"]
        given.append(f"batch_size={subject.images or 'IMAGES'}")
        given.append(f"image_size={subject.pixels or 'PIXELS'}")
        given += [f"dtype={subject.dtype}"] if subject.dtype in DTYPES else []
        given += [f"device={subject.device}"]
    return shlex.join([*given, *added])
