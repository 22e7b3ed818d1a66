"""The reference runs, and which of them belong side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.analysis import analyze
from analyzer.schema.results import Analysis
from analyzer.schema.run import RunFacts

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "traces" / "reference"
PAIRS = (
    ("vit_base_patch16_224", "convnext_base"),
    ("vit_tiny_patch16_224", "resnet18"),
)
"""A Vision Transformer and a CNN that are held against each other."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A run that is kept: ``device`` is the folder it lies in, ``name`` its own, ``facts`` its run.json."""

    device: str
    name: str
    analysis: Analysis
    facts: RunFacts

    @property
    def is_gpu(self) -> bool:
        """Tell whether a GPU ran it."""
        return self.facts.device.type == "cuda"

    @property
    def batches(self) -> int:
        """Return the traced batches that totals are sums of."""
        return self.analysis.window.batches or 1

    @property
    def materialised(self) -> bool:
        """Tell whether attention wrote its scores to memory."""
        return "math" in (self.facts.model.attention_backend or "")


def read_references(reference: Path = REFERENCE) -> tuple[Reference, ...]:
    """Return the runs in ``reference/<device>/<run>``, by device and name.

    Raises:
        TraceError: one of them cannot be read.
    """
    found = []
    for path in sorted(file.parent for file in reference.glob("*/*/run.json")):
        analysis = analyze(path)
        if analysis.run.facts is not None:
            found.append(Reference(path.parent.name, path.name, analysis, analysis.run.facts))
    return tuple(found)


def setting(run: Reference, *without: str) -> tuple[Any, ...]:
    """Return what tells two runs on one device apart, but for the fields in ``without``.

    Of a folder of one device the runs may come from several machines and days: another torch runs other kernels, and a CPU with
    more threads is another device.
    """
    s = run.facts.settings
    fields = {
        "device": run.device, "model": run.facts.model.name, "image_size": s.image_size, "batch_size": s.batch_size,
        "dtype": s.dtype, "attention": run.materialised, "compile": s.compile, "layout": s.memory_format,
        "autocast": s.autocast, "input": s.input, "torch": run.facts.versions.get("torch"),
        "threads": None if run.is_gpu else s.threads, "cudnn_benchmark": s.cudnn_benchmark,
        "tf32": (s.matmul_precision, s.convolution_tf32),
    }  # fmt: skip
    return tuple(value for name, value in fields.items() if name not in without)


def said(run: Reference) -> str:
    """Return the setting of a run without model and device: ``224 px, batch 1, float32``."""
    s = run.facts.settings
    parts = [f"{s.image_size} px", f"batch {s.batch_size}", s.dtype]
    parts += ["materialised attention"] if run.materialised else []
    parts += [f"compiled ({s.compile})"] if s.compile != "off" else []
    return ", ".join(parts)


def _joined(
    runs: Sequence[Reference],
    without: tuple[str, ...],
    first: Callable[[Reference], bool],
    second: Callable[[Reference], bool],
) -> Iterator[tuple[Reference, Reference]]:
    """Yield the runs that ``first`` and ``second`` take and that differ in nothing but ``without``."""
    for one in filter(first, runs):
        for two in filter(second, runs):
            if one is not two and setting(one, *without) == setting(two, *without):
                yield one, two


def model_pairs(runs: Sequence[Reference]) -> Iterator[tuple[Reference, Reference]]:
    """Yield each ViT with the CNN of ``PAIRS`` in the same setting; materialised attention is another question."""
    for vit, cnn in PAIRS:
        yield from _joined(
            runs,
            ("model",),
            lambda run, name=vit: run.facts.model.name == name and not run.materialised,  # type: ignore[misc]
            lambda run, name=cnn: run.facts.model.name == name,  # type: ignore[misc]
        )


def attention_pairs(runs: Sequence[Reference]) -> Iterator[tuple[Reference, Reference]]:
    """Yield (materialised, fused) runs of one model that differ in nothing else."""
    yield from _joined(runs, ("attention",), lambda run: run.materialised, lambda run: not run.materialised)


def compiled_pairs(runs: Sequence[Reference]) -> Iterator[tuple[Reference, Reference]]:
    """Yield (compiled, eager) runs of one model that differ in nothing else."""
    yield from _joined(
        runs,
        ("compile",),
        lambda run: run.facts.settings.compile != "off",
        lambda run: run.facts.settings.compile == "off",
    )


def device_pairs(runs: Sequence[Reference]) -> Iterator[tuple[Reference, Reference]]:
    """Yield (source, target): the same model and setting on two GPUs, whatever their torch."""
    yield from _joined(runs, ("device", "torch"), lambda run: run.is_gpu, lambda run: run.is_gpu)
