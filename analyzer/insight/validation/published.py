"""Counters that papers and threads publish with the sizes of their problems: our table for them, and the model beside each row.

The columns are described in docs/validation-method.md. No kernel of such a table ran here.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from analyzer.access.caches import cache_of
from analyzer.access.geometry import geometry_of
from analyzer.access.problem import Attention, Pass, Problem, Product
from analyzer.access.streams.order import TooLargeError
from analyzer.access.tiling import Geometry, Raster
from analyzer.errors import TraceError
from analyzer.hardware.lookup import sheets
from analyzer.insight.validation.families import COLD, ELEMENTWISE, FUSED, GEMM, GEMM_OPEN, LOOP
from analyzer.insight.validation.items import SMALL_OUTPUT, Item, Parameters, output_is_small
from analyzer.insight.validation.modelled import WARM_PASSES, Modelled, modelled
from analyzer.schema.access import CacheFacts
from analyzer.schema.validation import FITTED, HELD_OUT

COLUMNS = (
    "gpu", "mode", "kernel", "description", "dtype", "m", "n", "k", "batch", "heads", "kv_heads", "seq_q", "seq_k", "head_dim",
    "causal", "tile", "raster", "grid", "calls", "counter", "bytes", "source",
)  # fmt: skip
MAX_BYTES, MAX_ROWS, MAX_SIZE, MAX_TEXT = 8 << 20, 10_000, 1 << 31, 400

QUANTITY = {
    "dram_read": "dram_read_bytes", "dram_write": "dram_write_bytes", "dram_total": "dram_bytes",
    "l2_to_sm_read": "l2_sm_bytes", "sm_to_l2_write": "sm_l2_bytes", "l2_lookup_read": "l2_lookup_bytes",
    "l2_miss_read": "l2_miss_bytes",
}  # fmt: skip
"""Counters of the table, and what they are a quantity of."""
CAPACITY = "effective_l2"
NO_KERNEL = "a capacity that was found by timing, no bytes of a kernel"

ORDERS = {"rows fastest": Raster("mnb"), "query tiles fastest": Raster("qhb"), "heads fastest": Raster("bhq")}
_OPEN = (Raster("nmb"), Raster("mnb"))
_ITEMSIZE = {"bf16": 2, "fp16": 2, "tf32": 4, "fp32": 4, "fp8": 1, "int8": 1}
_COUNTS = {"no": 0, "one": 1, "two": 2, "three": 3, "four": 4}
_WORD = "|".join(_COUNTS)
_PASSED = re.compile(rf"\b({_WORD}) inputs?, ({_WORD}) outputs?\b")

FITTED_ON = {
    ("rtx_4090", "residual add"): ("dram_read", "dram_write"),
    ("rtx_4090", "layer norm"): ("dram_read", "dram_write"),
    ("rtx_4090", "gelu + auxiliary"): ("dram_read", "dram_write"),
    ("h100_sxm5_80gb", "FlashInfer FA3 prefill"): ("dram_total",),
    ("h100_sxm5_80gb", "Triton flash prefill"): ("dram_total",),
}
"""Kernels that shipped parameters were fitted on, with the counters used.

The RTX 4090's read overhead and retained bytes were fitted on its elementwise kernels (llm.c, pull requests 378 and 363), the
H100's retained bytes on the totals of two attention kernels (cache-barrier)."""
FITTED_SOURCES = ("karpathy/llm.c", "zhan4808/cache-barrier")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What has no prediction: its class (empty where not known), the quantity, why, and how many kernels it is about."""

    family: str
    quantity: str
    why: str
    kernels: int = 1


@dataclass(frozen=True, slots=True)
class _Known:
    """A row that can be predicted."""

    row: dict[str, str]
    family: str
    problem: Problem
    geometry: Geometry | None
    device: CacheFacts


def is_published(path: Path) -> bool:
    """Tell by its header whether a file is such a table."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            return set(COLUMNS) <= set(next(csv.reader([file.readline(4096)]), []))
    except (OSError, csv.Error):
        return False


def read_published(path: Path) -> list[dict[str, str]]:
    """Return the rows of such a table.

    Raises:
        TraceError: it is too large, or a figure of it is no number.
    """
    if path.stat().st_size > MAX_BYTES:
        raise TraceError(f"{path.name} is larger than {MAX_BYTES >> 20} MiB", "a table of published counters has a row each")
    rows = []
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            for number, row in enumerate(csv.DictReader(file), start=2):
                if number > MAX_ROWS:
                    raise TraceError(f"{path.name} has more than {MAX_ROWS} rows", "split it")
                rows.append(_checked({name: (row.get(name) or "").strip() for name in COLUMNS}, f"{path.name}, line {number}"))
        except csv.Error as error:
            raise TraceError(f"{path.name}: {error}", "the columns are described in docs/validation-method.md") from None
    return rows


def _checked(row: dict[str, str], place: str) -> dict[str, str]:
    row["calls"] = row["calls"] or "1"
    for name in ("calls", "bytes"):
        if not _positive(row[name], 1e18):
            raise TraceError(
                f"{place}: {name} is {row[name][:40]!r}, not a positive number", "bytes are the sum over all calls"
            )
    for name in ("m", "n", "k", "batch", "heads", "kv_heads", "seq_q", "seq_k", "head_dim"):
        if row[name] and not (row[name].isdecimal() and row[name].isascii() and _positive(row[name], MAX_SIZE)):
            raise TraceError(
                f"{place}: {name} is {row[name][:40]!r}, not a size", "leave sizes empty that a kernel does not have"
            )
    if any(len(text) > MAX_TEXT for text in row.values()):
        raise TraceError(f"{place}: a text of more than {MAX_TEXT} characters", "shorten it")
    return row


def _positive(text: str, most: float) -> bool:
    if not re.fullmatch(r"[0-9]{1,19}(?:\.[0-9]{1,9})?", text):
        return False
    return 0 < float(text) <= most


def published_items(path: Path) -> tuple[list[Item], list[LeftOut]]:
    """Return each row of a table of published counters beside its parts of a prediction, and the rows that have none.

    Raises:
        TraceError: the file is damaged.
    """
    rows = read_published(path)
    items, left = [], []
    known: dict[tuple[str, str, Problem, Geometry | None], Modelled] = {}
    for row in rows:
        found = known_row(row)
        if isinstance(found, LeftOut):
            left.append(found)
            continue
        key = (found.device.key, row["mode"], found.problem, found.geometry)
        try:
            if key not in known:
                passes = WARM_PASSES if row["mode"] == LOOP else 1
                known[key] = modelled(found.problem, found.geometry, found.device, passes)
        except TooLargeError:
            left.append(LeftOut(found.family, QUANTITY[row["counter"]], "too large for the model to write down"))
            continue
        items.append(_item(path.name, found, known[key]))
    return items, left


def known_row(row: dict[str, str]) -> _Known | LeftOut:
    """Return what the model takes a row for, or why it takes it for nothing."""
    if row["counter"] == CAPACITY:
        return LeftOut("", "effective capacity of L2", NO_KERNEL)
    quantity = QUANTITY.get(row["counter"])
    if quantity is None:
        return LeftOut("", row["counter"], "no such counter in this format")
    device = cache_named(row["gpu"])
    if isinstance(device, str):
        return LeftOut("", quantity, device)
    if row["mode"] not in (COLD, LOOP):
        return LeftOut("", quantity, f"mode is neither '{COLD}' nor '{LOOP}'")
    try:
        family, problem = problem_of(row)
        geometry = None if isinstance(problem, Pass) else geometry_for(row, problem, device)
    except ValueError as error:
        return LeftOut("", quantity, str(error))
    return _Known(row, family, problem, geometry, device)


def cache_named(gpu: str) -> CacheFacts | str:
    """Return the cache of a GPU: a key of the database, or the beginning of just one, in any spelling; else why it has none."""
    wanted = "_".join(re.findall(r"[a-z0-9]+", gpu.lower()))
    keys = list(sheets())
    found = [key for key in keys if key == wanted] or [key for key in keys if wanted and key.startswith(wanted)]
    if len(found) != 1:
        return f"the database has no GPU called {gpu}" if not found else f"{gpu} can be {' or '.join(found)}"
    return cache_of(sheets()[found[0]])


def problem_of(row: dict[str, str]) -> tuple[str, Problem]:
    """Return the class and the problem of a row.

    Raises:
        ValueError: its sizes do not tell; the message says why.
    """
    size = _ITEMSIZE.get(row["dtype"])
    if size is None:
        raise ValueError(f"element type {row['dtype'] or '(none)'} is not one of {', '.join(_ITEMSIZE)}")
    if row["heads"]:
        batch, heads, kv, queries, keys, width = _whole(row, "batch", "heads", "kv_heads", "seq_q", "seq_k", "head_dim")
        if heads % kv:
            raise ValueError("heads is no multiple of kv_heads")
        return FUSED, Attention(batch, heads, kv, queries, keys, width, width, size, row["causal"] == "1")
    if row["k"]:
        m, n, k = _whole(row, "m", "n", "k")
        batch = _whole(row, "batch")[0] if row["batch"] else 1
        return GEMM if row["raster"] else GEMM_OPEN, Product(batch, m, n, k, size, size)
    told = _PASSED.search(row["description"])
    if not told:
        raise ValueError("neither k nor heads, and the description does not say '... inputs, ... outputs'")
    read, written = (_COUNTS[word] for word in told.groups())
    whole = size * math.prod(_whole(row, "m", "n"))
    return ELEMENTWISE, Pass(read * whole, written * whole)


def _whole(row: dict[str, str], *names: str) -> list[int]:
    missing = [name for name in names if not row[name]]
    if missing:
        raise ValueError(f"{' and '.join(missing)} missing")
    return [int(row[name]) for name in names]


def geometry_for(row: dict[str, str], problem: Problem, device: CacheFacts) -> Geometry:
    """Return the geometry of a row: from the kernel's name where it has one, else its tile and its order.

    Raises:
        ValueError: neither tells.
    """
    named = geometry_of(row["kernel"], None, None, problem, device.multiprocessors)
    sides = [int(part) for part in re.findall(r"\d{1,5}", row["tile"])[:2]]
    if len(sides) < 2 or min(sides) < 1:
        raise ValueError("tile is not ROWSxCOLUMNS")
    if row["raster"] and row["raster"] not in ORDERS:
        raise ValueError(f"raster is none of {', '.join(ORDERS)}")
    rasters = (ORDERS[row["raster"]],) if row["raster"] else _OPEN
    if isinstance(problem, Attention) == ("m" in rasters[0].axes):
        raise ValueError("raster does not belong to this kind of kernel")
    if isinstance(problem, Product) and problem.batch > 1 and isinstance(named, Geometry):
        return replace(named, rasters=rasters)
    deep = 64 if isinstance(problem, Attention) else 32
    return Geometry(sides[0], sides[1], deep, rasters, "inferred", "", persistent="persistent" in row["description"])


def _item(run: str, found: _Known, by_model: Modelled) -> Item:
    row, device = found.row, found.device
    shipped = Parameters(device.read_overhead, device.retained_bytes[1])
    fitted = FITTED_ON.get((device.key, row["kernel"]), ())
    is_fitted = row["counter"] in fitted and row["source"].startswith(FITTED_SOURCES)
    quantity = QUANTITY[row["counter"]]
    small = quantity == "dram_write_bytes" and output_is_small(by_model.written, shipped)
    fixed = {
        "l2_sm_bytes": (by_model.read,) * 3, "sm_l2_bytes": (by_model.written,) * 3, "l2_lookup_bytes": by_model.looked_up,
        "l2_miss_bytes": by_model.missed_in_halves,
    }  # fmt: skip
    return Item(
        run=run, gpu=row["gpu"], family=found.family,
        kernel=row["description"] if row["kernel"] == "gemm" else row["kernel"], op="",
        shapes=_shapes(row), problem=repr((found.problem, found.geometry)), mode=row["mode"], quantity=quantity,
        measured=float(row["bytes"]) / float(row["calls"]), fixed=fixed.get(quantity, (0.0, 0.0, 0.0)), missed=by_model.missed,
        written=by_model.written, shipped=shipped, calls=float(row["calls"]), status=FITTED if is_fitted else HELD_OUT,
        unscored=SMALL_OUTPUT if small else "",
    )  # fmt: skip


def _shapes(row: dict[str, str]) -> str:
    return ", ".join(_sizes(row))


def _sizes(row: dict[str, str]) -> Iterator[str]:
    if row["heads"]:
        yield f"batch {row['batch']}, {row['heads']} heads of {row['head_dim']}"
        yield f"{row['seq_q']} queries x {row['seq_k']} keys{' causal' if row['causal'] == '1' else ''}"
    else:
        sizes = "x".join(row[name] for name in ("m", "n", "k") if row[name])
        yield f"{row['batch']} x {sizes}" if row["batch"] else sizes
    yield row["dtype"]
