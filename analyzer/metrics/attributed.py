"""How much of a run's kernel time belongs to an operator and to a module, and what could not be attributed."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd

from analyzer.format import percent
from analyzer.schema.compiled import Attribution, CompiledGraph
from analyzer.trace.fused import fused_kind
from analyzer.trace.kinds import is_no_operator
from analyzer.trace.link import ALIGNED, is_replayed
from analyzer.trace.regions import Adopted
from analyzer.trace.replay import replay_shares
from analyzer.trace.scopes import SOURCES

_UNNAMED_TRITON = re.compile(r"^triton_")
ANNOTATED = "its modules are the annotations that the user made, which may be any stretch of code"
NO_MODULES = "the trace has neither module scopes nor nn.Module frames"
COMPILED_AWAY = (
    "the trace has neither module scopes nor nn.Module frames, compiled code never has any, and no compiled.json.gz lies with "
    "the trace that would tell its modules"
)
REPLAYED = "kernels that a CUDA graph replayed carry no operator, and no trace of the same code without graphs tells them"
HIDDEN = (
    "The kernels that torch.compile generated are not in the trace: the own time of the compiled region, {share} of the "
    "operators' time, is theirs and has no operator. Record with torch._inductor.config.cpp.enable_kernel_profile = True, as "
    "`analyzer compile=default` does."
)


def attribute(
    launches: pd.DataFrame, source: str, graphs: tuple[CompiledGraph, ...] = (), compiled: Adopted | None = None
) -> Attribution:
    """Return the shares of kernel time (of operators' own time on a CPU) that have operators and modules.

    ``launches``: the table LAUNCHES of a run. ``source``: what tells of modules, one of ``analyzer.trace.scopes.SOURCES``.
    ``graphs`` and ``compiled``: what torch.compile made, and what was found of it in the trace. A share is NaN where there is
    no kernel time, ``modules_pct`` also where nothing tells modules; ``notes`` then say why.
    """
    rows = launches[launches["category"].isin(("kernel", "operator"))]
    time = rows["dur_ns"].to_numpy(np.float64)
    ops, kernels = (rows[name].to_numpy(object) for name in ("op", "kernel"))
    generated = {name for name in set(kernels) if fused_kind(name) or _UNNAMED_TRITON.match(name)}
    no_module = rows["module"].eq("").to_numpy(bool)
    shares = {
        "operators_pct": _share(time, ops != ""),
        "modules_pct": math.nan if no_module.all() else _share(time, ~no_module),
        "fused_pct": _share(time, np.isin(kernels, list(generated))),
    }
    replayed, aligned = replay_shares(launches)
    return Attribution(
        **shares,
        replayed_pct=replayed,
        aligned_pct=aligned,
        graphs=len(graphs),
        calls=sum(len(graph.calls) for graph in graphs),
        matched_pct=compiled.matched_pct if compiled else math.nan,
        notes=tuple(_notes(rows, shares, source, graphs, compiled)),
    )


def _share(time: np.ndarray[tuple[int], np.dtype[np.float64]], chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    return float(100 * time[chosen].sum() / time.sum()) if time.sum() > 0 else math.nan


def _notes(
    rows: pd.DataFrame, shares: dict[str, float], source: str, graphs: tuple[CompiledGraph, ...], compiled: Adopted | None
) -> list[str]:
    notes = []
    named = {name: is_no_operator(name) for name in rows["kernel"].unique()}
    region = rows["category"].eq("operator") & rows["kernel"].map(named).astype(bool)
    time = rows["dur_ns"].to_numpy(np.float64)
    if region.any():
        notes.append(HIDDEN.format(share=percent(_share(time, region.to_numpy(bool)))))
    if len(rows) and math.isnan(shares["modules_pct"]):
        replayed = bool(is_replayed(rows).all())
        was_compiled = bool(region.any()) or shares["fused_pct"] > 0
        notes.append(REPLAYED if replayed else COMPILED_AWAY if was_compiled and not graphs else NO_MODULES)
    elif source == SOURCES[2] and not graphs and rows.loc[rows["link"] != ALIGNED, "module"].ne("").any():
        notes.append(ANNOTATED)
    return [*notes, *(compiled.notes if compiled else ())]
