"""The launches of a trace: their geometry and their bytes, and what the access model says of the whole run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.access.costs import excess_us
from analyzer.access.describe import describe
from analyzer.access.geometry import assumed_geometry, geometry_of
from analyzer.access.kernel import Launch, kernel_access, work_out
from analyzer.access.problem import Described
from analyzer.access.result import Subject, build
from analyzer.access.units import Unit, fallback, resident_of
from analyzer.schema.access import AccessResult, CacheFacts
from analyzer.schema.operators import OpCall
from analyzer.trace.arguments.convolution import convolution
from analyzer.trace.scopes import module_pattern

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

COLUMNS = (
    "bytes_l2_sm", "bytes_l2_read", "bytes_dram_low", "bytes_dram_high", "excess_low_us", "excess_high_us", "reuse_factor",
    "footprint_bytes", "reuse_distance_median_bytes", "bytes_dram_read", "bytes_dram_read_low", "bytes_dram_read_high",
    "access_orders", "geometry_confidence", "access_pattern",
)  # fmt: skip
"""Columns added to launches. ``bytes_*`` are reads plus writes, ``bytes_l2_read`` the reads alone; empty without a geometry or
a model of the device's cache. ``bytes_dram_read`` is under strict recency in the first order, ``_low`` and ``_high`` are the
ends over policies and all ``access_orders`` plausible orders of thread blocks; ``access_pattern`` one of ``problem.PATTERNS``.
``excess_*_us``: the least time with these bytes minus that with every operand moved once."""

_SHARED = (
    "bytes_l2_sm", "bytes_l2_read", "bytes_dram_low", "bytes_dram_high", "excess_low_us", "excess_high_us", "bytes_dram_read",
    "bytes_dram_read_low", "bytes_dram_read_high",
)  # fmt: skip
_TEXTS = ("geometry_confidence", "access_pattern")

_READ = (
    "basis", "grid", "block", "kernel", "resident_blocks", "flop", "floor_compute_us", "unmodelled", "bytes_compulsory", "kind",
    "shapes", "dtype", "is_backward",
)  # fmt: skip
"""Columns that a launch is recognised by, beside its module."""

NO_WORK = "no work model"
HELPER = "helps another kernel of its operator, and its own bytes are not in the trace"
SPLIT = "sums split over several blocks have no access model"
NO_PROBLEM = "no loop nest for this operator"

_PASSES = {
    "normalisation": "norm", "pointwise": "pointwise", "reduction": "other", "indexing": "other", "layout": "layout",
    "pooling": "pooling", "optimizer": "pointwise", "view": "layout", "transfer": "layout",
}  # fmt: skip
"""Kinds whose bytes move once whatever the order, so that the bytes of the work model are enough."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a launch was recognised as: a unit, or the reason why not; neither of a view, which moves nothing."""

    unit: Unit | None
    reason: str = ""


def add_access(
    launches: pd.DataFrame, calls: Sequence[OpCall | None], subject: Subject, *, on_gpu: bool
) -> tuple[pd.DataFrame, AccessResult]:
    """Return ``launches`` with COLUMNS, and what the access model says of the run.

    Columns read: ``category, kernel, kind, grid, block, op, op_index, owner, basis, module, dtype, shapes,
    bytes_compulsory, dur_ns, resident_blocks, floor_compute_us, flop, step, unmodelled,
    is_backward``. ``calls``: the call of each operator.
    """
    code, found, source = _recognised(launches, calls, subject, on_gpu=on_gpu)
    share = _shares(launches, code, found, source)
    work_out({(f.unit.launch, subject.devices, subject.multiprocessors) for f in found if f.unit})
    kernels = launches["category"].isin(("kernel", "operator")).to_numpy()
    time = launches["dur_ns"].to_numpy(np.float64) / 1e3
    units = _units(share, code, found, kernels & _first_pass(launches, calls))
    counted = _sums(code, found, time, share, kernels)
    left, covered = _left_out(launches, code, found, time, kernels)
    silent = _silence(launches, subject)
    result = build(subject, units, counted, _rate) if not silent else build(subject, [], counted, _rate)
    columns = _columns(launches, code, found, share, subject)
    return columns, replace(result, left_out=left, modelled_pct=covered, silent=silent)


def input_of(calls: Sequence[OpCall | None]) -> tuple[int, int]:
    """Return images per batch and image size of a model, as its first convolution of three channels was called; else 0."""
    for call in {id(call): call for call in calls if call is not None}.values():  # alike calls are one object
        found = convolution(call)
        if found is not None and len(found.image.shape) == 4 and found.image.shape[1] == 3:
            return found.image.shape[0], found.image.shape[2]
    return 0, 0


def passes_of(launches: pd.DataFrame, calls: Sequence[OpCall | None]) -> int:
    """Return how often the model ran, as the launches of its first layer tell; 0 where the trace does not show that layer."""
    return len(_first_layers(launches, calls))


def _first_layers(launches: pd.DataFrame, calls: Sequence[OpCall | None]) -> npt.NDArray[np.int64]:
    """Return the first launch of every run of the model's first layer, a convolution of three channels."""
    owner = launches["owner"].to_numpy(np.int64)
    shapes: dict[int, object] = {}
    for i in np.unique(owner[owner >= 0]).tolist():
        call = calls[i]
        found = convolution(call) if call is not None and "backward" not in call.name else None
        if found is not None and len(found.image.shape) == 4 and found.image.shape[1] == 3:
            shapes[i] = (found.image.shape, found.weight.shape)
    if not shapes:
        return np.empty(0, np.int64)
    first = next(iter(shapes.values()))
    mine = [i for i, shape in shapes.items() if shape == first]
    _, at = np.unique(np.where(np.isin(owner, mine), owner, -1), return_index=True)
    return np.sort(at[owner[at] >= 0][np.isin(owner[at[owner[at] >= 0]], mine)])


def _first_pass(launches: pd.DataFrame, calls: Sequence[OpCall | None]) -> npt.NDArray[np.bool_]:
    """Tell which launches make up one pass over the model: a traced step, or all up to the second run of its first layer."""
    step = launches["step"].to_numpy(np.int64)
    named = step[step >= 0]
    if len(named):
        return np.asarray(step == named.min(), bool)
    begins = _first_layers(launches, calls)
    last = begins[1] if len(begins) > 1 else len(step)
    return np.arange(len(step)) < last


def _silence(launches: pd.DataFrame, subject: Subject) -> str:
    """Return why nothing is said of a whole model, empty where something can be."""
    if launches["kind"].eq("optimizer").any() or launches["op"].str.contains("backward", case=False).any():
        return "the trace holds a training step, and gradients have no access model"
    if not subject.batches:
        return "the trace does not tell how often the model ran"
    return ""


def _shares(launches: pd.DataFrame, code: Codes, found: Sequence[Found], source: Codes) -> Floats:
    """Return the share of its problem that each launch works on: launches of one operator divide it by their durations."""
    known = np.array([f.unit is not None for f in found], bool)[code] & (source >= 0)
    time = np.maximum(launches["dur_ns"].to_numpy(np.float64), 1.0)
    total = np.bincount(source[known], time[known], int(source.max(initial=0)) + 1)
    share = np.ones(len(code))
    share[known] = time[known] / total[source[known]]
    return share


def _units(share: Floats, code: Codes, found: Sequence[Found], kept: npt.NDArray[np.bool_]) -> list[Unit]:
    """Return the units of one pass, in order; a launch that does a part of an operator counts as that part."""
    mine = ((found[code[i]].unit, share[i]) for i in np.flatnonzero(kept).tolist())
    return [unit if part == 1.0 else replace(unit, calls=float(part)) for unit, part in mine if unit is not None]


def _sums(code: Codes, found: Sequence[Found], time: Floats, share: Floats, kernels: npt.NDArray[np.bool_]) -> list[Unit]:
    """Return each distinct unit with the sums of its calls and times over the whole trace."""
    us = np.bincount(code[kernels], time[kernels], len(found))
    calls = np.bincount(code[kernels], share[kernels], len(found))
    return [
        replace(f.unit, calls=float(n), time_us=float(t)) for f, n, t in zip(found, calls, us, strict=True) if f.unit and n > 0
    ]


def _left_out(
    launches: pd.DataFrame, code: Codes, found: Sequence[Found], time: Floats, kernels: npt.NDArray[np.bool_]
) -> tuple[tuple[tuple[str, str, float], ...], float]:
    """Return (kind, reason, share of the kernel time in %) of what has no geometry, and the share of what has one."""
    total = float(time[kernels].sum())
    reasons = np.array([f.reason for f in found] or [""], object)[code] if len(found) else np.array([], object)
    rows = pd.DataFrame({"kind": launches["kind"], "why": reasons, "us": time})[kernels]
    sums = rows[rows["why"] != ""].groupby(["kind", "why"])["us"].sum().sort_values(ascending=False)
    if not total:
        return (), 0.0
    listed = tuple((kind, why, 100 * us / total) for kind, why, us in sums.reset_index().itertuples(index=False) if us)
    return listed, 100 * (1 - float(sums.sum()) / total)


def _rate(device: CacheFacts, unit: Unit) -> float:
    """Return the peak that the run's own floors used."""
    return unit.rate_tflops


def _recognised(
    launches: pd.DataFrame, calls: Sequence[OpCall | None], subject: Subject, *, on_gpu: bool
) -> tuple[Codes, list[Found], Codes]:
    """Return for each launch the number of what it is, what that is, and the operator whose problem it is (-1 without).

    Alike launches are recognised once. The operator that launched a kernel tells its problem, else the one that owns the work.
    """
    described: dict[tuple[int, str], Described | None] = {}
    source = _sources(launches, calls, described)
    identity = np.array([id(calls[i]) if i >= 0 else 0 for i in source.tolist()], np.int64)
    module = launches["module"].map({name: module_pattern(name) for name in launches["module"].unique()})
    columns = [
        launches[name] for name in ("kernel", "grid", "block", "kind", "basis", "resident_blocks", "unmodelled", "is_backward")
    ]
    # without a problem the bytes of the work model are all that tells launches apart
    own = launches["bytes_compulsory"].where(identity == 0)
    code = pd.factorize(identity)[0].astype(np.int64)
    for column in (*columns, module, own):
        values, unique = pd.factorize(column, use_na_sentinel=False)
        code = pd.factorize(code * (len(unique) + 1) + values)[0].astype(np.int64)
    first = np.unique(code, return_index=True)[1]
    rows: list[dict[Any, Any]] = launches[list(_READ)].iloc[first].assign(module=module.iloc[first]).to_dict("records")
    found = [
        _recognise(row, described.get((int(identity[i]), row["kind"])), subject, on_gpu=on_gpu)
        for i, row in zip(first.tolist(), rows, strict=True)
    ]
    return code, found, source


def _sources(
    launches: pd.DataFrame, calls: Sequence[OpCall | None], described: dict[tuple[int, str], Described | None]
) -> Codes:
    """Return the operator whose call tells the problem of each launch, -1 without one; fill ``described`` by (call, kind)."""

    def told(index: int, kind: str) -> bool:
        call = calls[index] if index >= 0 else None
        if call is None:
            return False
        key = (id(call), kind)
        if key not in described:
            described[key] = describe(call, kind)
        return described[key] is not None

    out = []
    columns = (launches[name].tolist() for name in ("op_index", "owner", "kind", "basis"))
    for inner, owner, kind, basis in zip(*columns, strict=True):
        tried = (inner,) if basis == "helper" else (inner, owner) if basis == "formula" else ()
        out.append(next((i for i in tried if told(i, kind)), -1))
    return np.array(out, np.int64)


def _recognise(row: dict[Any, Any], described: Described | None, subject: Subject, *, on_gpu: bool) -> Found:
    guessed = described is None
    described = described or _pass(row)
    if row["basis"] not in ("formula", "helper") or described is None:
        return Found(None, _why_not(row))
    if row["is_backward"] and described.pattern == "linear":  # a gradient, whose factors are not the layer's own
        described = replace(described, pattern="product_backward")
    problem = described.problem
    if on_gpu:
        shape = (_triple(row["grid"]), _triple(row["block"]))
        geometry = geometry_of(row["kernel"], *shape, problem, subject.multiprocessors)
    else:
        geometry = assumed_geometry(problem, described.dtype, cpu=True)
    if isinstance(geometry, str) or geometry.split_k > 1:
        return Found(None, geometry if isinstance(geometry, str) else SPLIT)
    if guessed:  # what is read and what is written cannot be told apart
        geometry = replace(geometry, confidence="assumed")
    resident = row["resident_blocks"]
    known = int(resident) if resident >= 1 else resident_of(described.pattern)
    launch = Launch(problem, geometry, known if on_gpu else 1, subject.images)
    flop, us = row["flop"], row["floor_compute_us"]
    rate = flop / us / 1e6 if flop > 0 and us > 0 else math.nan
    return Found(Unit(described, launch, row["module"], row["kernel"], rate_tflops=rate))


def _why_not(row: dict[Any, Any]) -> str:
    """Return why a launch has no problem; empty for a view, which moves nothing."""
    if row["basis"] == "view":
        return ""
    known = {"helper": HELPER, "formula": NO_PROBLEM}
    return known.get(row["basis"]) or row["unmodelled"] or NO_WORK


def _pass(row: dict[Any, Any]) -> Described | None:
    size = row["bytes_compulsory"]
    if row["basis"] != "formula" or row["kind"] not in _PASSES or not size >= 0:
        return None
    return fallback(_PASSES[row["kind"]], size, row["shapes"], row["dtype"])


def _triple(text: str) -> tuple[int, int, int] | None:
    parts = text.split(",") if text else []
    return (int(parts[0]), int(parts[1]), int(parts[2])) if len(parts) == 3 else None


def _columns(launches: pd.DataFrame, code: Codes, found: Sequence[Found], share: Floats, subject: Subject) -> pd.DataFrame:
    """Return ``launches`` with COLUMNS; several launches that do the work of one operator share its bytes as its FLOP."""
    own = subject.devices[0].key if subject.devices else ""
    nothing = (*(math.nan,) * (len(COLUMNS) - len(_TEXTS)), *("",) * len(_TEXTS))
    rows = [_figures(f.unit, own, subject) if f.unit else nothing for f in found]
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).iloc[code]
    for column in _SHARED:
        frame[column] = frame[column].to_numpy(np.float64) * share
    return launches.assign(**{column: frame[column].to_numpy() for column in COLUMNS})


def _figures(unit: Unit, own: str, subject: Subject) -> tuple[float | str, ...]:
    access = kernel_access(unit.launch, subject.devices, subject.multiprocessors)
    traffic = access.traffic.get(own)
    low, high = traffic.total if traffic else (math.nan, math.nan)
    excess = excess_us(unit, traffic, sum(access.l2_sm_bytes), unit.rate_tflops, subject.devices[0]) if traffic else None
    locality, geometry = access.locality, unit.launch.geometry
    reads = (traffic.point, *traffic.read) if traffic else (math.nan,) * 3
    return (
        sum(access.l2_sm_bytes), access.l2_sm_bytes[0], low, high, *(excess or (math.nan, math.nan)), locality.reuse_factor,
        locality.footprint_bytes, locality.distance_median_bytes, *reads, float(len(geometry.rasters)), geometry.confidence,
        unit.pattern,
    )  # fmt: skip
