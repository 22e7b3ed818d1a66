"""The spine of shapes alone: from the layers of a model to what it does to the caches of GPUs, without running it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from analyzer.access.caches import cache_of
from analyzer.access.problem import Pass, Window
from analyzer.access.result import Rates, Subject, build
from analyzer.access.subject import COMPARED, caches
from analyzer.access.units import Unit, units_of
from analyzer.errors import ConfigError
from analyzer.hardware.lookup import nearest, sheets
from analyzer.hardware.sheet import GpuSheet
from analyzer.schema.access import AccessResult, CacheFacts
from analyzer.trace.calls import calls_of

DEFAULT_GPU = "h100_sxm5_80gb"
NO_PROBLEM = "no loop nest for this operator"


@dataclass(frozen=True, slots=True)
class Target:
    """A GPU to work things out for: its sheet, one device of it, and its cache as the model has it."""

    sheet: GpuSheet
    cache: CacheFacts


@dataclass(frozen=True, slots=True)
class Layers:
    """A model known by its layers: ``records`` are the operators of one forward pass, each with the module that ran it."""

    label: str
    images: int
    image_size: int
    dtype: str
    records: Sequence[dict[str, Any]]


def targets(keys: Sequence[str], own: GpuSheet | None = None) -> tuple[Target, ...]:
    """Return the GPUs called ``keys`` in the database, the user's ``own`` before them; DEFAULT_GPU where there is neither.

    Raises:
        ConfigError: no GPU of that name, or one whose cache has no model.
    """
    known = sheets()
    found = [_target(_apart(own, known), f"gpu_spec sheet of {own.name}")] if own is not None else []
    for key in keys or (() if own is not None else (DEFAULT_GPU,)):
        if key not in known:
            raise ConfigError(f"no GPU called {key!r} in the database", f"nearest: {', '.join(nearest(key, list(known)))}")
        found.append(_target(known[key], f"gpu={key}"))
    return tuple(found)


def _apart(own: GpuSheet, known: dict[str, GpuSheet]) -> GpuSheet:
    """Return the user's sheet under a key of its own: measurements of a product in the database are not of this sheet."""
    return replace(own, key=f"{own.key}_own") if own.key in known else own


def _target(sheet: GpuSheet, given: str) -> Target:
    sheet = sheet.share()
    cache = cache_of(sheet)
    if isinstance(cache, str):
        raise ConfigError(f"{given} has no cache model: {cache}", f"for example gpu=[{','.join(COMPARED[1:])}]")
    return Target(sheet, cache)


def analyze_layers(layers: Layers, gpus: Sequence[Target]) -> AccessResult:
    """Return what the access model says of a model on ``gpus``, the first of which gives the order of blocks.

    Tiles and orders are assumed, because no kernel has run that would tell them.
    """
    units: list[Unit] = []
    left: Counter[str] = Counter()
    for call, record in zip(calls_of(list(layers.records)), layers.records, strict=True):
        found, missed = units_of([(call, str(record.get("module", "")))], layers.images)
        units += found
        left[call.name] += missed
    subject = Subject(
        model=layers.label,
        images=layers.images,
        image_size=layers.image_size,
        devices=tuple(gpu.cache for gpu in gpus),
        others=caches(COMPARED),
        multiprocessors=gpus[0].cache.multiprocessors,
    )
    missing = tuple((f"{name} ({count}x)", NO_PROBLEM, math.nan) for name, count in left.items() if count)
    return replace(build(subject, units, units, rates_of(gpus, layers.dtype)), left_out=missing)


def peaks(gpus: Sequence[Target], dtype: str) -> tuple[tuple[str, str, str, str], ...]:
    """Return (GPU, limit, figure with its unit, source) of the limits that floors rest on."""
    out = []
    for gpu in gpus:
        sheet = gpu.sheet
        vector = dtype if dtype in sheet.vector_tflops else "float32"
        matrix = "matrix" if dtype in sheet.matrix_tflops and dtype != "float32" else "vector"
        names = {
            f"{matrix}.{dtype}": f"products and attention, {matrix} peak in {dtype}",
            f"vector.{vector}": f"other layers, vector peak in {vector}",
            "dram_bandwidth": "DRAM bandwidth",
        }
        known = [(words, figure) for name, words in names.items() if (figure := sheet.figure(name)) is not None]
        out += [(sheet.name, words, f"{figure.value:g} {figure.unit}", figure.source) for words, figure in known]
    return tuple(out)


def rates_of(gpus: Sequence[Target], dtype: str) -> Rates:
    """Return the peak of each unit in TFLOP/s by the sheets of ``gpus``: NaN where a sheet does not give it.

    Products, convolutions and attention run on matrix units where those take ``dtype``; all else on the vector lanes, in
    float32 where the sheet gives no vector peak of ``dtype``.
    """
    known = {gpu.cache.key: gpu.sheet for gpu in gpus}

    def rate(device: CacheFacts, unit: Unit) -> float:
        sheet = known.get(device.key)
        if sheet is None:
            return math.nan
        if isinstance(unit.launch.problem, Pass | Window):
            vector = sheet.vector_tflops
            return vector.get(dtype, vector.get("float32", math.nan))
        return sheet.peak_tflops.get(dtype, math.nan)

    return rate
