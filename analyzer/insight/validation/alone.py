"""A file of counters without a trace: what launch geometry alone predicts, and what was counted of everything else."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from analyzer.hardware.capability import sm_limits
from analyzer.hardware.sheet import GpuSheet
from analyzer.insight.validation.families import (
    CONVOLUTION,
    ELEMENTWISE,
    FUSED,
    GEMM_OPEN,
    UNMODELLED,
    UNTOLD,
    WINDOWED,
)
from analyzer.insight.validation.items import Item
from analyzer.insight.validation.published import LeftOut
from analyzer.metrics.counters.derive import derive
from analyzer.metrics.occupancy import add_occupancy
from analyzer.schema.counters import COUNTED
from analyzer.schema.run import NVIDIA, DeviceFacts
from analyzer.trace.counters import CounterFile
from analyzer.trace.kinds import kernel_kind

NO_SIZES = "the file does not hold the sizes of the problem; a trace of the same program beside it does"
NO_LAUNCH = "the file lacks registers (launch__registers_per_thread), block, grid or compute capability of these launches"
NO_SHARED = "the file lacks the shared memory of these launches (launch__shared_mem_per_block_dynamic and _static)"
NO_SMS = "the number of multiprocessors is not in the file; gpu_spec=FILE.yaml tells it"
NO_COUNTER = "no such counter in the file"
OCCUPANCIES = {"occupancy_theoretical_pct": "occupancy_ncu_pct", "occupancy_pct": "occupancy_achieved_pct"}
OTHERS = {
    "l2_sm_bytes": "bytes_l2_sm_counter", "sm_l2_bytes": "bytes_sm_l2_counter", "dram_read_bytes": "bytes_dram_read_counter",
    "dram_write_bytes": "bytes_dram_write_counter", "dram_bytes": "bytes_dram_counter", "flop": "flop_tensor_counter",
}  # fmt: skip
_REGISTERS = "launch__registers_per_thread"
_SHARED = ("launch__shared_mem_per_block_static", "launch__shared_mem_per_block_dynamic")
_SHARED_WHOLE, _SHARED_DRIVER = "launch__shared_mem_per_block", "launch__shared_mem_per_block_driver"
_SMS = ("device__attribute_multiprocessor_count", "launch__sm_count")
_KEYS = ["kernel", "grid", "block"]
_FAMILY = {
    "attention": FUSED, "matmul": GEMM_OPEN, "moe": GEMM_OPEN, "convolution": CONVOLUTION, "depthwise": WINDOWED,
    "pooling": WINDOWED, "normalisation": ELEMENTWISE, "pointwise": ELEMENTWISE, "reduction": ELEMENTWISE,
    "indexing": ELEMENTWISE, "layout": ELEMENTWISE,
}  # fmt: skip


def file_items(file: CounterFile, sheet: GpuSheet | None = None) -> tuple[list[Item], list[LeftOut]]:
    """Return the occupancies of each distinct kernel of ``file`` beside the counted ones, and why there is nothing else.

    Kernels are one where name, grid and block agree; what several processes counted of them is put together. ``sheet``: the
    user's, for the number of multiprocessors.
    """
    table = counted_table(file)
    capability = file.capability or (sheet.compute_capability if sheet else None) or ""
    sms = _multiprocessors(file.rows, sheet)
    device = DeviceFacts(type="cuda", name="", vendor=NVIDIA, compute_capability=capability, sm_count=sms or 1)
    predicted = add_occupancy(table, device)
    gpu = sheet.name if sheet else f"compute capability {capability}" if capability else "GPU not named"
    known = sm_limits(capability) is not None
    items: list[Item] = []
    left: list[LeftOut] = []
    for row in predicted.to_dict("records"):
        for one in _of_kernel(row, file, gpu, known=known, sized=sms is not None):
            if isinstance(one, Item):
                items.append(one)
            else:
                left.append(one)
    return items, left


def counted_table(file: CounterFile) -> pd.DataFrame:
    """Return a row per kernel, grid and block: ``calls``, ``registers``, ``shared_bytes`` and COUNTED, means per launch."""
    rows = file.rows
    metrics = rows[[*_KEYS, *file.metrics]].groupby(_KEYS, sort=False)
    means = metrics[list(file.metrics)].mean()
    # several processes count the same launches, each other metrics of them
    calls = rows.groupby([*_KEYS, "process"], sort=False).size().groupby(level=_KEYS, sort=False).max()
    counted = derive(means, file.capability).values
    found = pd.concat([counted[COUNTED.names], _launch_facts(means)], axis=1)
    return found.assign(calls=calls.reindex(means.index)).reset_index()


def _launch_facts(means: pd.DataFrame) -> pd.DataFrame:
    nothing = pd.Series(np.nan, index=means.index)
    parts = [means[name] for name in _SHARED if name in means]
    if parts:
        shared = sum(parts[1:], parts[0])
    else:
        shared = means.get(_SHARED_WHOLE, nothing) - means.get(_SHARED_DRIVER, nothing).fillna(0)
    return pd.DataFrame({"registers": means.get(_REGISTERS, nothing), "shared_bytes": shared})


def _multiprocessors(rows: pd.DataFrame, sheet: GpuSheet | None) -> int | None:
    told = [int(rows[name].max()) for name in _SMS if name in rows and rows[name].max() > 0]
    return told[0] if told else sheet.sm_count if sheet else None


def _of_kernel(row: dict[object, object], file: CounterFile, gpu: str, *, known: bool, sized: bool) -> Iterator[Item | LeftOut]:
    kernel = str(row["kernel"])
    family = _FAMILY.get(kernel_kind(kernel) or "", UNMODELLED)
    for quantity, column in OCCUPANCIES.items():
        measured, value = _number(row[column]), _number(row[quantity])
        if not math.isfinite(measured):
            yield LeftOut(family, quantity, NO_COUNTER)
        elif quantity == "occupancy_pct" and not sized:
            yield LeftOut(family, quantity, NO_SMS)
        elif not math.isfinite(_number(row["shared_bytes"])):
            yield LeftOut(family, quantity, NO_SHARED)
        elif not known or not math.isfinite(value):
            yield LeftOut(family, quantity, NO_LAUNCH)
        else:
            yield Item(
                run=file.name, gpu=gpu, family=family, kernel=kernel, op="", shapes="",
                problem=f"{row['grid']}\x1f{row['block']}", mode=file.mode or UNTOLD, quantity=quantity, measured=measured,
                fixed=(value, value, value), calls=max(_number(row["calls"]), 1.0),
            )  # fmt: skip
    for quantity, column in OTHERS.items():
        if math.isfinite(_number(row[column])):
            yield LeftOut(family, quantity, NO_SIZES)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
