"""The plan by value: what is measured, in which order, what each step needs and how long it may take.

The order is that of the worth of a step: a call that ends early has done the best that its time allowed. Estimates of
CUDA_PLAN are guesses (no step of it has run on a GPU yet); those of CPU_PLAN were seen on two shared cores.
"""

from __future__ import annotations

from dataclasses import dataclass

WHERE = ("out={out}", "device={device}")


def program(module: str, *words: str) -> tuple[str, ...]:
    """Return the command of a step: a module of this package, its words, the folder and the device."""
    return ("-m", f"benchmarks.evidence.{module}", *words, *WHERE)


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a plan: a process of its own, ``python *command``; ``{out}`` stands for the folder of the evidence.

    ``needs`` are keys of NEEDS; ``memory_gb`` is the device memory that has to be there; ``after`` names steps whose result it
    takes. ``output`` is what it writes, below the folder.
    """

    name: str
    gives: str
    command: tuple[str, ...]
    estimate_s: float
    output: str
    needs: tuple[str, ...] = ()
    memory_gb: float = 0.0
    after: tuple[str, ...] = ()


NEEDS = {
    "ncu": "hardware counters, by Nsight Compute",
    "compiler": "a C compiler and Triton (on a CPU a C++ compiler), for torch.compile",
}
"""What a step may need beside the device, in words."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model as it is run: its name and family in ``conf/``, its short name in names of steps, the attention asked for."""

    model: str
    family: str
    short: str
    attention: str = "auto"


VIT_B = Subject("vit_base_patch16_224", "vit", "vit_base", "flash")
CONVNEXT_B = Subject("convnext_base", "cnn", "convnext_base")
RESNET50 = Subject("resnet50", "cnn", "resnet50")
CONVNEXT_T = Subject("convnext_tiny", "cnn", "convnext_tiny")
SWIN_T = Subject("swin_tiny_patch4_window7_224", "vit", "swin_tiny")  # its masks rule out flash
SAM_VIT_B = Subject("samvit_base_patch16", "vit", "samvit_base")  # so do its relative positions
VIT_TI = Subject("vit_tiny_patch16_224", "vit", "vit_tiny", "flash")
RESNET18 = Subject("resnet18", "cnn", "resnet18")


def run_of(subject: Subject, size: int, batch: int, dtype: str, estimate_s: float, **other: object) -> Step:
    """Return the step that records a run. ``other``: attention, compile, repeats, memory_gb, gives."""
    attention, mode = str(other.get("attention", subject.attention)), str(other.get("compile", "off"))
    marks = [attention] if attention not in ("auto", subject.attention) else []
    marks += ["compiled"] if mode != "off" else []
    name = "-".join([subject.short, str(size), f"b{batch}", dtype, *marks])
    settings = {
        "name": name, "model": subject.model, "family": subject.family, "image_size": size, "batch_size": batch, "dtype": dtype,
        "attention": attention, "compile": mode, "repeats": other.get("repeats", 3),
    }  # fmt: skip
    return Step(
        name=name,
        gives=str(other.get("gives", "latency, trace, telemetry")),
        command=program("record", "run", *(f"{key}={value}" for key, value in settings.items())),
        estimate_s=estimate_s,
        output=f"runs/{name}",
        needs=("compiler",) if mode != "off" else (),
        memory_gb=float(str(other.get("memory_gb", 0.0))),
    )


def counters_of(run: Step, estimate_s: float) -> Step:
    """Return the step that reads the counters of the model of ``run`` into its directory."""
    command = tuple("counters" if word == "run" else word for word in run.command)
    after = (run.name,)
    return Step(
        f"{run.name}-counters", "DRAM and L2 bytes, occupancy, tensor cores of every kernel", command, estimate_s,
        f"{run.output}/counters.csv", ("ncu",), run.memory_gb, after,
    )  # fmt: skip


def _record(kind: str, gives: str, estimate_s: float, output: str, *settings: str) -> Step:
    return Step(kind, gives, program("record", kind, *settings), estimate_s, f"results/{output}")


def _calibration(estimate_s: float, gives: str) -> Step:
    command = program("calibration")
    return Step("calibration", gives, command, estimate_s, "results/calibration.json")


def _sampler(subject: Subject, size: int, batch: int, dtype: str, estimate_s: float, pairs: int) -> Step:
    settings = (f"model={subject.model}", f"family={subject.family}", f"image_size={size}", f"batch_size={batch}")
    command = program("costs", "sampler", *settings, f"dtype={dtype}", f"pairs={pairs}")
    return Step(
        "sampler-cost", "latency with and without telemetry, in turns", command, estimate_s, "results/sampler-cost.json"
    )


def _profiler(runs: tuple[Step, ...]) -> Step:
    command = program("costs", "profiler")
    after = (runs[0].name,)
    gives = "traced over untraced latency of each run"
    return Step("profiler-cost", gives, command, 4, "results/profiler-cost.json", after=after)


def _counted_calibration() -> Step:
    command = program("counted_calibration")
    gives = "DRAM and L2 bytes of the calibration's kernels"
    return Step("calibration-counters", gives, command, 110, "results/calibration-counters.json", ("ncu",))


def _cuda_plan() -> tuple[Step, ...]:
    bf16 = "bfloat16"
    pair = tuple(run_of(subject, 224, 32, bf16, 40) for subject in (VIT_B, CONVNEXT_B))
    math = run_of(VIT_B, 224, 32, bf16, 35, attention="math", repeats=2, gives="materialised against fused attention")
    large = tuple(
        run_of(subject, size, 32, bf16, seconds, repeats=2, memory_gb=gigabytes)
        for size, seconds, gigabytes in ((512, 35, 12.0), (1024, 50, 30.0))
        for subject in (VIT_B, CONVNEXT_B)
    )
    single = tuple(run_of(subject, 224, 1, bf16, 30, repeats=2) for subject in (VIT_B, CONVNEXT_B))
    compiled = tuple(run_of(s, 224, 32, bf16, 90, compile="default", repeats=2) for s in (VIT_B, CONVNEXT_B))
    others = (
        run_of(RESNET50, 224, 32, bf16, 30, repeats=2),
        run_of(CONVNEXT_T, 224, 32, bf16, 30, repeats=2),
        run_of(SWIN_T, 224, 32, bf16, 30, repeats=2),
        run_of(SAM_VIT_B, 1024, 4, bf16, 50, repeats=2, memory_gb=30.0),
    )
    return (
        _record("doctor", "what can be measured here", 25, "doctor.json"),
        _record("ceilings", "copy bandwidth and rate of matrix products", 15, "ceilings.json", f"dtype={bf16}"),
        *pair,
        *(counters_of(run, 90) for run in pair),
        math,
        *large,
        _calibration(
            40, "cyclic re-read at 20 sizes around L2, writes then reads, copy, a product in two orders of tiles: times"
        ),
        _counted_calibration(),
        *single,
        *compiled,
        *(step for run in others for step in (run, counters_of(run, 90))),
        _sampler(VIT_B, 224, 32, bf16, 50, 10),
        _profiler(pair),
    )


def _cpu_plan() -> tuple[Step, ...]:
    f32 = "float32"
    pair = tuple(run_of(subject, 224, 1, f32, 50, repeats=2) for subject in (VIT_TI, RESNET18))
    larger = tuple(run_of(subject, 384, 1, f32, 60, repeats=2) for subject in (VIT_TI, RESNET18))
    return (
        _record("doctor", "what can be measured here", 10, "doctor.json"),
        _record("ceilings", "copy bandwidth and rate of matrix products", 20, "ceilings.json", f"dtype={f32}"),
        *pair,
        run_of(VIT_TI, 224, 1, f32, 50, attention="math", repeats=2, gives="materialised against fused attention"),
        *larger,
        _calibration(15, "cyclic re-read at 20 sizes around a cache, writes then reads, copy: times"),
        run_of(VIT_TI, 224, 1, f32, 40, compile="default", repeats=1),
        _sampler(VIT_TI, 224, 1, f32, 30, 6),
        _profiler(pair),
    )


CUDA_PLAN: tuple[Step, ...] = _cuda_plan()
CPU_PLAN: tuple[Step, ...] = _cpu_plan()
PLANS: dict[str, tuple[Step, ...]] = {"cuda": CUDA_PLAN, "cpu": CPU_PLAN}
"""The plan of each type of device."""
