"""From an analysis to its digest: what remains of a run when its launches are let go."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzer.hardware.lookup import look_up
from analyzer.hardware.sheet import GpuSheet
from analyzer.insight.ledger import own_ledger
from analyzer.insight.peak import peak_memory
from analyzer.insight.telemetry import telemetry
from analyzer.metrics.attribution import MODELLED, counted
from analyzer.schema.digest import DIGEST_GROUPS, DIGEST_KINDS, Digest, Hardware
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.results import Analysis
from analyzer.schema.run import DeviceFacts

_KEY = ["role", "kind", "op", "shapes", "dtype", "module"]
_TOKENS = {"_scaled_dot_product_": 2, "_flash_attention_forward": 1, "_efficient_attention_forward": 1}
"""Which dimension of the operands of an operator counts the tokens, by a part of its name."""
_MAX_NAMES = 8
"""Distinct kernels that one group keeps the names of."""


def digest(a: Analysis, sheet: GpuSheet | None = None) -> Digest:
    """Return the digest of ``a``. ``sheet``: the user's own, as it was given to ``analyze``."""
    facts = a.run.facts
    batches = a.window.batches or 1
    access = a.access
    batch = facts.settings.batch_size if facts else (access.batch_size if access else 0)
    pixels = facts.settings.image_size if facts else (access.image_size if access else 0)
    rows = _rows(a)
    return Digest(
        name=a.run.name,
        label=a.label,
        family=facts.model.family if facts else "",
        trace=a.run.trace_name,
        device=a.device,
        hardware=hardware(a.device, sheet),
        facts=facts,
        dtype=a.dtype,
        batch_size=batch or None,
        image_size=pixels or None,
        tokens=_tokens(rows),
        window=a.window.source,
        steps=a.window.steps,
        batches=a.window.batches,
        totals=a.totals,
        latency=a.latency,
        ledger=own_ledger(a),
        kinds=_kinds(rows, batches),
        groups=_groups(rows, batches),
        telemetry=telemetry(a),
        peak_memory=peak_memory(a),
        warnings=a.warnings,
        trace_versions=dict(a.trace_versions),
    )


def hardware(device: DeviceFacts, own: GpuSheet | None = None) -> Hardware:
    """Return what a datasheet says of ``device``; without one, its own name and the reason."""
    found = look_up(device, own)
    sheet = found.sheet
    if sheet is None:
        return Hardware("", device.name, device.vendor or "", "", {}, found.reason)
    figures = {
        name: Quantity(figure.value, figure.unit, Evidence.SPEC, source=figure.source) for name, figure in sheet.figures.items()
    }
    return Hardware(sheet.key, sheet.name, sheet.vendor, sheet.architecture, figures)


def _rows(a: Analysis) -> pd.DataFrame:
    """Return the launches with what is summed: time of its own, and work where it counts."""
    rows = a.launches
    known = counted(rows)
    modelled = rows["basis"].isin(MODELLED)
    return rows.assign(
        op=rows["owner_op"],
        calls=1,
        time_us=rows["exclusive_us"],
        modelled_us=rows["exclusive_us"].where(modelled, 0.0),
        flop=rows["flop"].where(known),
        bytes_compulsory=rows["bytes_compulsory"].where(known),
        floor_us=rows["floor_us"].where(modelled),
    )


def _kinds(rows: pd.DataFrame, batches: int) -> pd.DataFrame:
    sums = ["calls", "time_us", "flop", "bytes_compulsory", "floor_us", "modelled_us"]
    found = rows.groupby(["role", "kind"], sort=False, observed=True)[sums].sum(min_count=1) / batches
    out = found.reset_index().sort_values("time_us", ascending=False, kind="stable", ignore_index=True)
    return out[list(DIGEST_KINDS)]


def _groups(rows: pd.DataFrame, batches: int) -> pd.DataFrame:
    grouped = rows.groupby(_KEY, sort=False, observed=True, dropna=False)
    sums = grouped[["calls", "time_us", "flop", "bytes_compulsory"]].sum(min_count=1) / batches
    names = grouped["kernel"].unique().map(lambda found: tuple(map(str, found[:_MAX_NAMES])))
    steps = _by_step(rows, grouped.ngroup().to_numpy(), len(sums))
    out = sums.assign(kernels=names, step_us=pd.Series(steps, index=sums.index, dtype=object)).reset_index()
    return out.sort_values("time_us", ascending=False, kind="stable", ignore_index=True)[list(DIGEST_GROUPS)]


def _by_step(rows: pd.DataFrame, number: np.ndarray, groups: int) -> list[tuple[float, ...]]:
    """Return the time of each group in each step; a step in which it did not run has 0."""
    step = rows["step"].to_numpy(np.int64)
    steps = np.unique(step[step >= 0])
    if not len(steps):
        return [()] * groups
    table = np.zeros((groups, len(steps)))
    inside = step >= 0
    np.add.at(table, (number[inside], np.searchsorted(steps, step[inside])), rows["time_us"].to_numpy(np.float64)[inside])
    return list(map(tuple, table.tolist()))


def _tokens(rows: pd.DataFrame) -> int | None:
    """Return the longest sequence that attention saw, None where no operator tells it.

    Operands are ``[N, heads, tokens, width]`` for PyTorch's scaled_dot_product operators and ``[N, tokens, heads, width]`` for
    the kernels' own entry points.
    """
    calls = rows.loc[rows["kind"] == "attention", ["op", "shapes"]].drop_duplicates()
    found = []
    for op, shapes in calls.itertuples(index=False):
        place = next((place for name, place in _TOKENS.items() if name in op), None)
        operands = [text.split("x") for text in str(shapes).split() if place is not None]
        found += [
            int(sizes[place]) for sizes in operands[:3] if place is not None and len(sizes) == 4 and sizes[place].isdigit()
        ]
    return max(found, default=None)
