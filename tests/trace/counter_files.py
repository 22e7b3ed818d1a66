"""Writes files as ``ncu --csv`` prints them, for tests: both forms, the spelling of its demangler, its units and commas."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

COLUMNS = (
    "ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream", "Block Size", "Grid Size", "Device", "CC",
)  # fmt: skip
UNITS = {"gpu__time_duration.sum": "nsecond"}


@dataclass(frozen=True)
class Row:
    """One counted launch."""

    id: int
    kernel: str
    values: Mapping[str, float | str] = field(default_factory=dict)
    grid: str = "132,1,1"
    block: str = "256,1,1"
    process: int = 1
    device: str = "0"
    capability: str = "9.0"


def unit_of(metric: str) -> str:
    """Return the base unit that ncu prints for a metric."""
    if metric.endswith(("pct", "_pct", "pct_of_peak_sustained_active")):
        return "%"
    if metric.endswith(".per_second"):
        return "hz"
    for word, unit in (
        ("duration", "nsecond"),
        ("bytes", "byte"),
        ("sectors", "sector"),
        ("cycles", "cycle"),
        ("inst", "inst"),
    ):
        if word in metric:
            return unit
    return ""


def shape(text: str) -> str:
    return f"({text.replace(',', ', ')})"


def number(value: float | str, *, commas: bool = True) -> str:
    if isinstance(value, str):
        return value
    text = f"{value:,.0f}" if value == int(value) else f"{value:,.6f}"
    return text if commas else text.replace(",", "")


def cells(row: Row) -> dict[str, str]:
    return dict(
        zip(
            COLUMNS,
            (
                str(row.id), str(row.process), "python3.11", "host", row.kernel, "1", "7", shape(row.block), shape(row.grid),
                row.device, row.capability,
            ),
            strict=True,
        )
    )  # fmt: skip


def line(fields: Iterable[str], *, quoted: bool = True) -> str:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL, lineterminator="\n").writerow(fields)
    return out.getvalue()


def raw_page(
    rows: Sequence[Row],
    *,
    metrics: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    commas: bool = True,
    quoted: bool = True,
    units_row: bool = True,
) -> str:
    """Return the raw page: a line per launch, the units below the header. ``columns`` gives the order, and what there is."""
    metrics = metrics if metrics is not None else list(dict.fromkeys(name for row in rows for name in row.values))
    columns = columns if columns is not None else (*COLUMNS, *metrics)
    text = line(columns, quoted=quoted)
    if units_row:
        told = units or {}
        text += line([told.get(c, unit_of(c)) if c in metrics else "" for c in columns], quoted=quoted)
    for row in rows:
        known = {**cells(row), **{name: number(row.values.get(name, ""), commas=commas) for name in metrics}}
        text += line([known[c] for c in columns], quoted=quoted)
    return text


def long_page(rows: Sequence[Row], units: Mapping[str, str] | None = None) -> str:
    """Return what ``ncu --csv --metrics ...`` prints: a line per metric, with its unit, and lines of rules between."""
    rules = ("Rule Name", "Rule Type", "Rule Description")
    text = line((*COLUMNS, "Section Name", "Metric Name", "Metric Unit", "Metric Value", *rules))
    for row in rows:
        for name, value in row.values.items():
            unit = (units or {}).get(name, unit_of(name))
            text += line((*cells(row).values(), "Command line profiler metrics", name, unit, number(value), "", "", ""))
        text += line((*cells(row).values(), "Occupancy", "", "", "", "TheoreticalOccupancy", "WRN", 'a "rule", with words'))
    return text


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


_TYPED = re.compile(r"(?<=[<,] )(-?\d+)(ul|u|l)?(?=[,> ])|(?<=<)(-?\d+)(ul|u|l)?(?=[,> ])")
_CASTS = {None: "int", "": "int", "ul": "unsigned long", "u": "unsigned int", "l": "long"}


def as_ncu_spells(name: str) -> str:
    """Return a name of Kineto's as Nsight Compute's demangler spells it, without template parameters in lists of arguments.

    After names of the same kernels in public profiles by Nsight: ``(int)4``, ``(bool)1``, ``<unnamed>``, ``char *``, ``>>``,
    ``[lambda(float) (instance 1)]``, ``operator ()()``, ``const T &``.
    """
    text = name.replace("(anonymous namespace)", "<unnamed>").replace("operator()", "operator ()")
    text = re.sub(r"\{(lambda\((?:[^()]|\([^()]*\))*\))#(\d+)\}", r"[\1 (instance \2)]", text)
    text = re.sub(r"\b(true|false)\b", lambda word: f"(bool){int(word[0] == 'true')}", text)
    text = _TYPED.sub(lambda n: f"({_CASTS[n[2] or n[4]]}){n[1] or n[3]}", text)
    text = re.sub(r"([\w:]+(?:<[^<>]*>)?) const([&*])", r"const \1\2", text)
    text = re.sub(r"(?<=[\w>])([*&])", r" \1", text)
    while "> >" in text:
        text = text.replace("> >", ">>")
    return text.replace("at::native::gpu_kernel_impl", "void at::native::gpu_kernel_impl")


def counted(launches: pd.DataFrame, process: int = 1, start: int = 0) -> list[Row]:
    """Return the kernels of a table LAUNCHES as counted, in the order of their launches; the values tell which one it was."""
    kernels = launches[launches["category"] == "kernel"].sort_values(["launch_ns", "start_ns"], kind="stable")
    return [
        Row(
            id=start + n,
            kernel=as_ncu_spells(k.kernel),
            values={"gpu__time_duration.sum": float(k.dur_ns), "dram__bytes.sum": float(k.Index)},
            grid=k.grid,
            block=k.block,
            process=process,
        )
        for n, k in enumerate(kernels.itertuples())
    ]


BYTES, TIME, ACTIVE = "dram__bytes.sum", "gpu__time_duration.sum", "sm__warps_active.avg.pct_of_peak_sustained_active"
ROWS = [
    Row(0, "gemm<(int)128>(float *)", {BYTES: 27_595_520, TIME: 117_344, ACTIVE: 45.5}, "132,2,1"),
    Row(1, "softmax", {BYTES: 4_096, TIME: 2_848, ACTIVE: 80.25}, "16384,1,1", "1024,1,1"),
]
