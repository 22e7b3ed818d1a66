"""Findings about kernels that only move data: conversions between layouts, and chains that one fused kernel could do."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.insight.rules.selection import (
    COLUMNS,
    bandwidth_gbps,
    count_fact,
    dims_of,
    is_negligible,
    is_training,
    kernel_saving,
    kernels,
    limits,
    numel,
    per,
    per_step_us,
    place,
    share_fact,
    shown,
    time_fact,
    waiting_note,
    worker,
)
from analyzer.insight.rules.statement import compile_mode, fact, step_us, steps_of
from analyzer.schema.evidence import Evidence
from analyzer.schema.findings import Fact, Finding
from analyzer.schema.operators import ITEMSIZE
from analyzer.schema.results import Analysis
from analyzer.trace.kinds import operator_kind

_CONVERSION = re.compile(r"nchw_?(to|2)_?nhwc|nhwc_?(to|2)_?nchw|batched_transpose|nchw2cnhw|cnhw2nchw", re.IGNORECASE)
_COPY = ("aten::copy_", "aten::clone", "aten::contiguous")
_REORDERING = ("aten::clone", "aten::contiguous", "aten::reshape")
"""Operators that copy a tensor to have it in order. What others copy is their own business: a bias, another number format."""
NOTABLE = 0.1
"""A smaller share than this is not told, and no advice is given for it."""
COMPILED = re.compile(r"^triton_|^cpp_fused|_fused_|inductor", re.IGNORECASE)
"""Kernels that a compiler made, which has fused what it could."""

Ints = npt.NDArray[np.int64]


def layout_conversions(a: Analysis) -> Finding | None:
    """Return that kernels only change the layout of a tensor: around convolutions, or as copies elsewhere.

    The saving is at most the time of all of them. At least it is that of the conversions around convolutions less the longest
    that one convolution has: with channels_last throughout, the input still has to be converted once. Copies elsewhere count
    at the high end alone, as some layer may want them.
    """
    every = kernels(a)
    rows = every[every["kind"].eq("layout")]
    owned = rows["owner_op"].map({op: _is_convolution(op) for op in rows["owner_op"].unique()}).astype(bool)
    told = rows["kernel"].map({name: bool(_CONVERSION.search(name[:2000])) for name in rows["kernel"].unique()}).astype(bool)
    around = told | (owned & rows["op"].isin(_COPY))
    elsewhere = ~around & rows["op"].isin(_COPY) & rows["owner_op"].isin(_REORDERING)
    conversions, copies, mine = rows[around], rows[elsewhere], rows[around | elsewhere]
    if mine.empty or is_negligible(a, mine):
        return None
    low = 0.0
    if len(conversions):
        low = per_step_us(a, conversions) - _longest_owner_us(a, conversions)
    time, share = time_fact(a, mine, f"time of these {worker(a)}"), share_fact(a, mine)
    parts = [time_fact(a, conversions, "time around convolutions"), time_fact(a, copies, "time of copies elsewhere")]
    whole, rest = _beside(a, rows, mine)
    count = count_fact(a, len(mine), "launches")
    note, more = waiting_note(a)
    return Finding(
        rule="layout_conversions",
        run=a.run.name,
        title=f"Copies of tensors into another order take {shown(share)} of the time of all {worker(a)}",
        claim=(
            f"{shown(count)} {worker(a)} {per(a)} only copy a tensor to have it in another order or place, which takes "
            f"{shown(time)}: {_where(*parts)}. The longest are those of {place(mine)}.{rest} {_layout_remedy(a, *parts)}{note}"
        ),
        facts=(share, count, time, *parts, *whole, *more),
        saving=kernel_saving(a, low, per_step_us(a, mine), per_step_us(a, mine)),
        step_us=step_us(a),
        effort="a setting" if copies.empty else "a small change",
        disproof=(
            _other_layout(a)
            if _most_around(parts)
            else "Leave out the copy and run again. If a later operator copies instead or takes longer, the copy was needed."
        ),
        target="kernels",
    )


def _other_layout(a: Analysis) -> str:
    other = "torch.contiguous_format" if _is_channels_last(a) else "torch.channels_last"
    return (
        f"Run the model with memory_format={other} and compare the times. If they do not fall, that layout costs elsewhere "
        "what it saves here."
    )


def _is_channels_last(a: Analysis) -> bool:
    return a.run.facts is not None and a.run.facts.settings.memory_format == "channels_last"


def _beside(a: Analysis, rows: pd.DataFrame, mine: pd.DataFrame) -> tuple[tuple[Fact, ...], str]:
    """Return the time of all ``rows`` of the kind "layout" and a sentence, where it is notably more than that of ``mine``."""
    if (1 - NOTABLE) * float(rows["exclusive_us"].sum()) <= float(mine["exclusive_us"].sum()):
        return (), ""
    whole = time_fact(a, rows, f"time of all {worker(a)} of the kind layout")
    return (whole,), (
        f" All {worker(a)} of the kind layout take {shown(whole)}. The rest is not counted here: it joins tensors, changes "
        "number formats, or copies a bias or a part of a tensor."
    )


def _where(conversions: Fact, copies: Fact) -> str:
    if not copies.figure.value:
        return "all of it around convolutions"
    if not conversions.figure.value:
        return "all of it copies by .contiguous(), .reshape() or .clone()"
    return f"{shown(conversions)} around convolutions, {shown(copies)} by .contiguous(), .reshape() or .clone() elsewhere"


def _is_convolution(op: str) -> bool:
    return operator_kind(op) in ("convolution", "depthwise") or op.startswith("aten::conv")


def _longest_owner_us(a: Analysis, rows: pd.DataFrame) -> float:
    """Return the most that one convolution takes for conversions in µs per step, as if it stood in every step."""
    return float(rows["exclusive_us"].groupby(rows["owner"]).sum().max())


def _most_around(parts: list[Fact]) -> bool:
    """Tell whether conversions around convolutions take as long as copies elsewhere, or longer."""
    conversions, copies = (part.figure.value or 0.0 for part in parts)
    return conversions >= copies


def _layout_remedy(a: Analysis, conversions: Fact, copies: Fact) -> str:
    parts = []
    around, elsewhere = (part.figure.value or 0.0 for part in (conversions, copies))
    if around > NOTABLE * (around + elsewhere):
        parts.append(
            "The run uses channels_last already, so some operator around these convolutions does not."
            if _is_channels_last(a)
            else "In the channels_last format, for the model and its input, convolutions need no conversion."
        )
    if elsewhere:
        parts.append("A copy can be left out where the next operator takes the tensor in the order that it has.")
    return " ".join(parts if _most_around([conversions, copies]) else reversed(parts))


def unfused_chains(a: Analysis) -> Finding | None:
    """Return that pointwise and normalisation kernels follow each other, each reading what the one before has written.

    A chain: kernels of pointwise or normalisation operators, one after the other on one stream with nothing between, where one
    reads a tensor of as many bytes as the one before writes. None of them is made by a compiler. The saving is at most the
    time of each chain less its longest kernel. At least it is the read of what passes from one to the next, at the bandwidth
    of the device, and only where it does not fit into the cache; the write may be needed elsewhere.
    Approximation: the result of such an operator is taken to have the shape of its largest input.
    """
    rows, gbps = a.launches[[*COLUMNS, "category"]], bandwidth_gbps(a)
    if a.device.type != "cuda" or not gbps:
        return None
    order, chain, passed = _chains(rows)
    if not len(order):
        return None
    mine = rows.loc[order]
    if is_negligible(a, mine):
        return None
    known = limits(a)
    cache = known.cache_bytes if known else None
    through = float(passed[passed > cache].sum()) if cache is not None else 0.0
    time = mine["exclusive_us"].groupby(chain)
    high = float((time.sum() - time.max()).sum()) / steps_of(a)
    total, share = time_fact(a, mine, "time of the chains"), share_fact(a, mine)
    count, chains = count_fact(a, len(mine), "kernels in chains"), count_fact(a, int(chain.max()) + 1, "chains")
    size = fact("passed from kernel to kernel", float(passed.sum()) / steps_of(a), "bytes", Evidence.DERIVED)
    noun = "chain" if chains.figure.value == 1 else "chains"
    kept = ", but for what the backward pass needs" if is_training(a) else ""
    note, more = waiting_note(a)
    return Finding(
        rule="unfused_chains",
        run=a.run.name,
        title=f"Chains of pointwise and normalisation kernels take {shown(share)} of the kernel time",
        claim=(
            f"{shown(count)} kernels {per(a)} stand in {shown(chains)} {noun}: each reads a tensor as large as the one before "
            f"has just written, {shown(size)} in all. They take {shown(total)}, the largest part in {place(mine)}. "
            f"{_fused(a, kept)}{note}"
        ),
        facts=(share, count, chains, size, total, *more),
        saving=kernel_saving(a, through / gbps / 1e3 / steps_of(a), high, per_step_us(a, mine)),
        step_us=step_us(a),
        effort="a small change",
        disproof=(
            "Run the model under torch.compile and compare the time of the kernels in place of these. If it is no shorter, the "
            "chains were not what they seem here."
            if compile_mode(a) == "off"
            else "Run with TORCH_LOGS=graph_breaks. If the compiled part of the model holds these operators without a break "
            "between them, torch.compile kept them apart for a reason of its own."
        ),
        target="kernels",
    )


def _fused(a: Analysis, kept: str) -> str:
    stays = f"so that what passes between its parts stays on chip{kept}"
    if compile_mode(a) == "off":
        return f"torch.compile makes one kernel of such a chain, {stays}."
    return (
        f"The model is compiled already, and these are no kernels of the compiler: they run where the graph breaks, or in "
        f"operators that it leaves as they are. Without a break it makes one kernel of a chain, {stays}."
    )


def _chains(rows: pd.DataFrame) -> tuple[Ints, Ints, npt.NDArray[np.float64]]:
    """Return the rows (labels) that stand in chains, the number of the chain of each, and the bytes of every link.

    ``rows`` are all launches: a copy or fill between two kernels ends a chain.
    """
    ordered = rows.sort_values(["device", "stream", "start_ns"], kind="stable")
    keys = list(zip(ordered["shapes"].tolist(), ordered["dtype"].tolist(), strict=True))
    known = {key: _sizes(*key) for key in set(keys)}
    sizes = [known[key] for key in keys]
    fit = ordered["kind"].isin(("pointwise", "normalisation")) & ordered["basis"].isin(("formula", "helper"))
    fit &= ordered["category"].eq("kernel")
    fit &= ~ordered["kernel"].map({n: bool(COMPILED.search(n[:2000])) for n in ordered["kernel"].unique()}).astype(bool)
    fits, owner = fit.tolist(), ordered["owner"].tolist()
    streams = list(zip(ordered["device"].tolist(), ordered["stream"].tolist(), strict=True))
    at: list[int] = []
    chain: list[int] = []
    passed: list[float] = []
    number, run, links = 0, [0] if fits and fits[0] else [], []
    for i in range(1, len(fits) + 1):
        goes_on = i < len(fits) and fits[i] and bool(run) and streams[i] == streams[i - 1]
        if goes_on and owner[i] == owner[i - 1]:
            run.append(i)
            continue
        written = max(sizes[i - 1], default=0) if run else 0
        if goes_on and written and written in sizes[i]:
            run.append(i)
            links.append(float(written))
            continue
        if links:
            at += run
            chain += [number] * len(run)
            passed += links
            number += 1
        run, links = ([i] if i < len(fits) and fits[i] else []), []
    labels = ordered.index.to_numpy(np.int64)[np.array(at, np.int64)]
    return labels, np.array(chain, np.int64), np.array(passed)


def _sizes(shapes: str, dtype: str) -> list[int]:
    """Return the bytes of each input of an operator."""
    return [numel(shape) * ITEMSIZE.get(dtype, 4) for shape in dims_of(shapes) if shape]
