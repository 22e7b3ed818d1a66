"""The operators of every launch with their modules: of a compiled kernel as the compiler told, else from its name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pandas as pd

from analyzer.insight.fusion_matching import Source
from analyzer.schema.compiled import CompiledCall
from analyzer.schema.results import Analysis
from analyzer.trace.compiled import read_compiled
from analyzer.trace.fitting import key


def sources_of(a: Analysis) -> list[tuple[Source, ...]]:
    """Return the operators of every launch, each with the path of its module; nothing where no operator is known.

    Where the compiler did not tell the modules of a kernel's operators, its main module counts for all of them.

    Raises:
        TraceError: the file that tells what the compiler made is damaged.
    """
    rows = a.launches
    fused = rows["op"].astype(str).str.contains("+", regex=False)
    names = rows["op"].astype(str).where(fused, rows["owner_op"].astype(str))
    out = [
        tuple((name, module) for name in op.split("+") if name)
        for op, module in zip(names.tolist(), rows["module"].astype(str).tolist(), strict=True)
    ]
    told = _calls(a)
    if told:
        for place, call in _paired(rows, told).items():
            out[place] = tuple((part.call.name, part.module) for part in call.parts) or out[place]
    return out


def _calls(a: Analysis) -> dict[str, list[CompiledCall]]:
    """Return the calls of several operators that the compiler told of, by the name of their kernel, in their order."""
    out: dict[str, list[CompiledCall]] = defaultdict(list)
    for graph in read_compiled(a.run.compiled) if a.run.compiled is not None else ():
        for call in graph.calls:
            out[key(call.kernel)].append(call)
    return {kernel: calls for kernel, calls in out.items() if any(len(call.parts) > 1 for call in calls)}


def _paired(rows: pd.DataFrame, told: dict[str, list[CompiledCall]]) -> dict[int, CompiledCall]:
    """Return the call behind each launch, by its place in ``rows``.

    In a step that launches a kernel as often as the compiler calls it they are the same in their order. Otherwise a launch is
    the first of the calls whose operators work for its module.
    """
    kernels = [key(name) for name in rows["kernel"].astype(str)]
    modules = rows["module"].astype(str).tolist()
    places: dict[tuple[str, int], list[int]] = defaultdict(list)
    start, step = rows["start_ns"].tolist(), rows["step"].tolist()
    for place in sorted(range(len(rows)), key=start.__getitem__):
        if kernels[place] in told:
            places[kernels[place], step[place]].append(place)
    out: dict[int, CompiledCall] = {}
    for (kernel, _), mine in places.items():
        calls = told[kernel]
        if len(mine) == len(calls):
            out |= dict(zip(mine, calls, strict=True))
            continue
        for place in mine:
            found = _of_module(calls, modules[place])
            if found is not None:
                out[place] = found
    return out


def _of_module(calls: Sequence[CompiledCall], module: str) -> CompiledCall | None:
    return next((call for call in calls if any(part.module == module for part in call.parts)), None)
