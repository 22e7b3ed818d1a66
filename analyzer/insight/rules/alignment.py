"""The finding about matrix products whose sizes do not fit the matrix units, and the sizes of products."""

from __future__ import annotations

import re

import pandas as pd

from analyzer.insight.rules.selection import (
    HALF,
    count_fact,
    dims_of,
    is_negligible,
    kernel_saving,
    kernels,
    numel,
    per,
    per_step_us,
    place,
    share_fact,
    shown,
    time_fact,
    waiting_note,
)
from analyzer.insight.rules.statement import fact, step_us, steps_of
from analyzer.schema.evidence import Evidence
from analyzer.schema.findings import Finding
from analyzer.schema.results import Analysis

MULTIPLE = 8
"""Elements of 16 bits to which cuBLAS and CUTLASS want rows aligned: 16 bytes, one vector load. Source: NVIDIA, Matrix
Multiplication Background User's Guide, section Tensor Core Requirements."""


def small_products(a: Analysis) -> Finding | None:
    """Return that 16-bit products have sizes that are no multiples of 8, so that they are padded or run slower kernels.

    Asked of the inner size and of the columns, which are what lies side by side in memory. The saving is at most what these
    products take longer than they would if they ran as near to their floors as the other products of the run (to their floors,
    where there are no others); at least 0. Where they are as near to their floors as the others it is a note.
    """
    rows = kernels(a)
    rows = rows[rows["kind"].isin(("matmul", "attention")) & rows["dtype"].isin(HALF) & rows["floor_us"].gt(0)]
    if a.device.type != "cuda" or rows.empty:
        return None
    rows = rows[[size is not None for size in _sizes(rows)]]
    misfit = is_misfit(rows)
    odd, even = rows[misfit], rows[~misfit]
    if odd.empty or is_negligible(a, odd):
        return None
    rate = _rate(even) if len(even) else 1.0
    saved = max(float(odd["exclusive_us"].sum()) - float(odd["floor_us"].sum()) / rate, 0.0) / steps_of(a)
    most = longest(odd)
    inner, columns = (sizes_of(most) or (0, 0, 0))[1:]
    time, share = time_fact(a, odd, "time of these products"), share_fact(a, odd)
    count = count_fact(a, len(odd), "kernels")
    of = fact("elements that sizes should be multiples of", MULTIPLE, "count", Evidence.SPEC)
    sizes = (fact("inner size", inner, "count", Evidence.MEASURED), fact("columns", columns, "count", Evidence.MEASURED))
    note, more = waiting_note(a)
    harmless = "" if saved else " They run as near to their floors as the other products do, so the sizes do no visible harm."
    return Finding(
        rule="small_products",
        run=a.run.name,
        title=f"Products with sizes that do not fit matrix units take {shown(share)} of the kernel time",
        claim=(
            f"{shown(count)} kernels {per(a)} with {shown(time)} multiply matrices whose inner size or columns are no multiple "
            f"of {shown(of)} elements, so they are padded or run slower kernels. The longest is {place(most)}: inner size "
            f"{shown(sizes[0])}, columns {shown(sizes[1])}.{harmless}{note if saved else ''}"
        ),
        facts=(share, count, time, of, *sizes, *(more if saved else ())),
        saving=kernel_saving(a, 0.0, saved, per_step_us(a, odd)) if saved else None,
        step_us=step_us(a),
        effort="a small change" if saved else "none",
        disproof="Pad these sizes to the next multiple and run again. If the products take as long as before, they fitted.",
        target="roofline",
        level="opportunity" if saved else "note",
    )


def _rate(rows: pd.DataFrame) -> float:
    """Return how near ``rows`` come to their floors: floor over time, at most 1."""
    return min(float(rows["floor_us"].sum() / rows["exclusive_us"].sum()), 1.0)


_FACTORS = re.compile(r"^aten::(?P<added>addmm|baddbmm|_addmm_activation|addbmm)$|^aten::(?P<bare>mm|bmm|matmul)$")


def _is_product(op: str) -> bool:
    return op == "aten::linear" or _FACTORS.match(op) is not None


def product_sizes(op: str, shapes: str) -> tuple[int, int, int] | None:
    """Return (rows, inner size, columns) of a matrix product from its operator and its shapes as text; None if not known."""
    dims = dims_of(shapes)
    match = _FACTORS.match(op)
    first = 1 if match and match["added"] else 0
    if not _is_product(op) or len(dims) < first + 2:
        return None
    left, right = dims[first], dims[first + 1]
    if not left or not right:
        return None
    rows = left[-2] if len(left) > 1 else 1
    if op == "aten::linear":
        columns = right[-2] if len(right) > 1 else 1
        return (numel(left[:-1]), left[-1], columns)
    return rows, left[-1], right[-1] if len(right) > 1 else 1


def _sizes(rows: pd.DataFrame) -> list[tuple[int, int, int] | None]:
    keys = list(zip(rows["owner_op"].tolist(), rows["shapes"].tolist(), strict=True))
    known = {key: product_sizes(*key) for key in set(keys)}
    return [known[key] for key in keys]


def is_misfit(rows: pd.DataFrame) -> pd.Series[bool]:
    """Tell which products have an inner size or columns that are no multiple of 8; False where sizes are not known."""
    found = [s is not None and (s[1] % MULTIPLE != 0 or s[2] % MULTIPLE != 0) for s in _sizes(rows)]
    return pd.Series(found, index=rows.index, dtype=bool)


def with_vector(rows: pd.DataFrame) -> pd.Series[bool]:
    """Tell which products have a vector for one factor."""
    found = [s is not None and min(s[0], s[2]) == 1 for s in _sizes(rows)]
    return pd.Series(found, index=rows.index, dtype=bool)


def longest(rows: pd.DataFrame) -> pd.DataFrame:
    """Return those of ``rows`` that are one product of one module and take longest together."""
    keys = [rows[name].astype(str) for name in ("owner_op", "module", "shapes")]
    group = rows["exclusive_us"].groupby(keys, sort=False)
    sums = group.transform("sum")
    found: pd.DataFrame = rows[sums == sums.max()].head(1)
    return found


def sizes_of(rows: pd.DataFrame) -> tuple[int, int, int] | None:
    """Return (rows, inner size, columns) of the first of ``rows``, None where they are not known."""
    return _sizes(rows.head(1))[0] if len(rows) else None
