"""Section "hardware": what the devices have, by their datasheets, with sources."""

from __future__ import annotations

import math

from analyzer.format import digits
from analyzer.report.blocks import Block, Cell, Folded, Head, Notice, Row, Section, Table, missing, number
from analyzer.report.comparison.cells import DERIVED, SPEC
from analyzer.report.marks.comparison_names import architecture_of, device_name, order_words, release_year
from analyzer.report.text import clean
from analyzer.schema.comparison import Comparison
from analyzer.schema.digest import Digest, Hardware

COLUMNS: tuple[tuple[str, str, str, int, str], ...] = (
    ("dram_bandwidth", "DRAM", "GB/s", 0, "bandwidth of the device's memory"),
    ("dram_capacity", "memory", "GB", 0, "size of the device's memory"),
    ("l2", "L2", "MiB", 0, "size of the L2 cache"),
    ("infinity_cache", "Infinity Cache", "MiB", 0, "size of the cache between L2 and memory, on AMD devices that have one"),
    (
        "sm_count",
        "SMs or CUs",
        "",
        0,
        "streaming multiprocessors (NVIDIA) or compute units (AMD); not the same size on both",
    ),
    ("vector.float32", "vector fp32", "TFLOP/s", 1, "peak of the lanes beside the matrix units"),
    ("matrix.tfloat32", "matrix tf32", "TFLOP/s", 0, "peak of dense products of the matrix units (tensor cores)"),
    ("matrix.float16", "matrix fp16", "TFLOP/s", 0, "peak of dense products of the matrix units (tensor cores)"),
    ("matrix.bfloat16", "matrix bf16", "TFLOP/s", 0, "peak of dense products of the matrix units (tensor cores)"),
    ("matrix.float8", "matrix fp8", "TFLOP/s", 0, "peak of dense products of the matrix units (tensor cores)"),
)
BEHIND = "infinity_cache"
RIDGE = "matrix.float16"


def section(comparison: Comparison) -> Section | None:
    """Return a row per device and the sources, None where no device has a datasheet."""
    devices: dict[str, Digest] = {}
    for d in comparison.runs:
        devices.setdefault(d.hardware.key or d.device.name, d)
    known = sorted((d for d in devices.values() if d.hardware.figures), key=release_year)
    lacking = [d for d in devices.values() if not d.hardware.figures]
    blocks: list[Block] = [Notice(f"{device_name(d)}: {clean(d.hardware.reason, 200) or 'no datasheet'}.") for d in lacking[:6]]
    if not known:
        return None
    blocks += [_table(known), Folded("Where these figures come from", (_sources([d.hardware for d in known]),))]
    return Section("hardware", "What do the devices have?", "Hardware", tuple(blocks))


def _table(devices: list[Digest]) -> Table:
    columns = [column for column in COLUMNS if any(column[0] in d.hardware.figures for d in devices)]
    rows = []
    for d in devices:
        h, architecture = d.hardware, clean(architecture_of(d), 40)
        cells = [Cell(f"{device_name(d)} ({architecture})" if architecture else device_name(d))]
        cells += [_figure(h, key, places) for key, _, _, places, _ in columns]
        cells.append(number(_ridge(h), 0, DERIVED))
        rows.append(Row(tuple(cells)))
    heads = (
        Head("device", meaning="the product, by its datasheet, and its architecture"),
        *(Head(text, unit, True, SPEC, meaning) for _, text, unit, _, meaning in columns),
        Head(
            "ridge",
            "FLOP/B",
            True,
            DERIVED,
            "matrix peak of float16 over DRAM bandwidth: work with fewer FLOP per byte is limited by DRAM",
        ),
    )
    order = order_words(devices)
    caption = order[0].upper() + order[1:]
    note = "Vendors quote peaks at clocks that a device may not hold. Multiprocessors of two vendors are not the same unit."
    if any(BEHIND in d.hardware.figures for d in devices):
        note += " What misses L2 can still hit an Infinity Cache, so sizes of L2 alone do not compare all the caches."
    return Table("hardware-table", caption, heads, tuple(rows), note)


def _figure(h: Hardware, key: str, places: int) -> Cell:
    found = h.figures.get(key)
    if found is None or found.value is None:
        return missing()
    return number(found.value, 1 if places == 0 and found.value != round(found.value) else places, SPEC)


def _ridge(h: Hardware) -> float:
    peak, bandwidth = (h.figures[key].value if key in h.figures else None for key in (RIDGE, "dram_bandwidth"))
    return peak * 1e3 / bandwidth if peak and bandwidth else math.nan


def _sources(devices: list[Hardware]) -> Table:
    names = {key: text for key, text, _, _, _ in COLUMNS}
    rows = tuple(
        Row(
            (
                Cell(clean(h.name, 60)),
                Cell(names[key]),
                Cell(f"{digits(figure.value or 0.0, 4)} {figure.unit}", figure.value, SPEC),
                Cell(clean(figure.source, 200)),
            )
        )
        for h in devices
        for key, figure in h.figures.items()
        if key in names
    )
    heads = (
        Head("device", meaning="the product, by its datasheet"),
        Head("what", meaning="the figure of the datasheet"),
        Head("figure", "", True, SPEC, "the value with its unit"),
        Head("source"),
    )
    return Table("hardware-sources", "Figures and their sources", heads, rows)
