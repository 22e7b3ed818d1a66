"""The spine: from a run directory or a bare trace to everything that a report may say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from analyzer.access.launches import add_access, input_of, passes_of
from analyzer.access.result import Subject
from analyzer.access.subject import subject_of
from analyzer.hardware.sheet import GpuSheet
from analyzer.insight.digest import digest
from analyzer.insight.fusion import find_fusion
from analyzer.insight.gap import explain
from analyzer.insight.labels import told_apart
from analyzer.insight.ledger import own_ledger
from analyzer.insight.rules import find_all
from analyzer.insight.verdict import say_one, say_pair
from analyzer.metrics.allocations import memory_profiles
from analyzer.metrics.arithmetic import add_arithmetic, used_units
from analyzer.metrics.attributed import attribute
from analyzer.metrics.attribution import add_work
from analyzer.metrics.capacities import capacity_facts
from analyzer.metrics.counters import add_counters
from analyzer.metrics.counters.check import check_counters
from analyzer.metrics.guard import check_ceilings, check_overlap, check_rates, check_shares
from analyzer.metrics.host import host_view
from analyzer.metrics.kernels import group_kernels
from analyzer.metrics.ledger import kernel_clock, missing_terms, sum_terms
from analyzer.metrics.limits import Limits, limit_facts, limits_of
from analyzer.metrics.memory import add_floors
from analyzer.metrics.occupancy import add_occupancy
from analyzer.metrics.roofline import rooflines
from analyzer.metrics.timing import latency, ratio
from analyzer.metrics.totals import add_exclusive, choose_window, sum_kinds, sum_totals
from analyzer.schema.compiled import CompiledGraph
from analyzer.schema.digest import Digest
from analyzer.schema.operators import OpCall
from analyzer.schema.results import Analysis, Impossible, Study, Window
from analyzer.schema.run import Run
from analyzer.schema.settings import Selection
from analyzer.trace.calls import match_exact, parse_call, read_calls
from analyzer.trace.compiled import read_compiled
from analyzer.trace.completion import complete_calls
from analyzer.trace.counters import counter_file
from analyzer.trace.generated import with_generated
from analyzer.trace.kinds import classify_launches
from analyzer.trace.kineto import Trace, read_trace
from analyzer.trace.link import Linked, link
from analyzer.trace.ranks import ranks_in, select_rank
from analyzer.trace.reading import Ahead
from analyzer.trace.regions import Adopted, adopt_compiled
from analyzer.trace.replay import Described, Operators, adopt_ungraphed
from analyzer.trace.rundir import open_run, read_samples, read_timings
from analyzer.trace.scopes import Stretch, read_steps


def analyze(
    source: str | Path,
    selection: Selection = Selection(),  # noqa: B008 - frozen
    ahead: Ahead | None = None,
    sheet: GpuSheet | None = None,
    counters: Path | None = None,
) -> Analysis:
    """Return the analysis of a run directory or of a bare Kineto trace, or of the part of it that ``selection`` names.

    Needs neither torch nor a GPU. ``ahead``: another process has begun to read its trace. ``sheet``: the user's own datasheet,
    which wins over the database. ``counters``: a file of hardware counters to use instead of the one that lies with the run.

    Raises:
        TraceError: nothing is there, it is no trace, or it has no such part.
        OtherRankError: the trace is of another rank than the selected one.
    """
    run, trace, linked = _opened(Path(source), selection, ahead)
    device = run.facts.device if run.facts else trace.device
    limits = limits_of(run, device, sheet)
    found = _attributed(run, trace, linked, selection.max_expansion)
    linked, calls = found.linked, found.operators.calls
    launches, impossible = _describe(run, linked, found.operators, limits)
    window = choose_window(linked)
    launches, access = add_access(launches, calls, _subject(run, launches, calls, limits, window), on_gpu=device.type == "cuda")
    launches, counted = add_counters(launches, counter_file(run, trace, counters), limits)
    launches, miscounted = check_counters(launches, limits)
    kernels = group_kernels(launches, run.name, limits)
    timings, samples = read_timings(run), read_samples(run)
    clock = kernel_clock(run, samples)
    return Analysis(
        run=run,
        device=device,
        label=run.facts.model.label if run.facts else run.name,
        dtype=run.facts.settings.dtype if run.facts else _main_dtype(launches),
        window=window,
        totals=sum_totals(launches, linked, window, device),
        kinds=sum_kinds(launches),
        terms=sum_terms(launches, limits, clock),
        missing_terms=missing_terms(launches, limits, clock),
        kernels=kernels,
        launches=launches,
        limits=(*limit_facts(limits, used_units(launches)), *capacity_facts(limits)),
        rooflines=rooflines(launches, limits),
        latency=latency(timings) if linked.by_step else None,
        timings=timings,
        samples=samples,
        warnings=(*(run.facts.warnings if run.facts else ()), *trace.warnings, *_rank_warning(trace), *found.warnings),
        segments=linked.segments,
        steps=linked.steps,
        base_unix_ns=trace.base_unix_ns,
        foreign=linked.foreign or ((), ()),
        impossible=(*impossible, *miscounted, *_impossible(run, trace, launches, kernels, limits)),
        access=access,
        counters=counted,
        host=host_view(trace, linked, launches, window),
        memory=memory_profiles(trace, linked, window),
        trace_versions=trace.versions,
        attribution=attribute(launches, linked.scopes.source, found.graphs, found.compiled),
    )


def _opened(source: Path, selection: Selection, ahead: Ahead | None) -> tuple[Run, Trace, Linked]:
    """Return the run, its trace and the launches in it that ``selection`` names."""
    run = open_run(source)
    trace = read_trace(run.trace, max_expansion=selection.max_expansion, ahead=ahead)
    trace = with_generated(select_rank(trace, selection.rank))
    return run, trace, link(trace, selection, shows_generated=run.compiled is not None)


def digests(
    sources: Iterable[str | Path],
    selection: Selection = Selection(),  # noqa: B008 - frozen
    sheet: GpuSheet | None = None,
) -> Iterator[Digest]:
    """Yield the digest of each run directory or trace in turn: only one analysis is in memory at a time.

    Raises:
        TraceError: a run is not there, or is no trace.
    """
    for source in sources:
        yield digest(analyze(source, selection, sheet=sheet), sheet)


@dataclass(frozen=True, slots=True, eq=False)
class _Attributed:
    """The launches of a run with the operators they belong to, and what of the ``graphs`` of torch.compile was found there."""

    linked: Linked
    operators: Operators
    graphs: tuple[CompiledGraph, ...]
    compiled: Adopted
    warnings: tuple[str, ...]


def _attributed(run: Run, trace: Trace, linked: Linked, max_expansion: float) -> _Attributed:
    """Return the launches of ``linked`` with their operators: as launched, as compiled, and as replayed from CUDA graphs."""
    calls, warnings = _operator_calls(run, trace, read_steps(trace))
    graphs = read_compiled(run.compiled) if run.compiled else ()
    own, compiled = _described(trace, linked, calls, graphs)
    apart: list[Adopted] = []
    own, unaligned = adopt_ungraphed(run, own, lambda other: _reference(run, other, graphs, apart), max_expansion)
    linked = replace(linked, launches=own.launches)
    # where CUDA graphs replay compiled code, only the trace without them shows its calls
    return _Attributed(linked, own.operators, graphs, next(iter(apart), compiled), (*warnings, *unaligned))


def _described(
    trace: Trace, linked: Linked, calls: list[OpCall | None], graphs: tuple[CompiledGraph, ...]
) -> tuple[Described, Adopted]:
    """Return the launches of a trace with its operators, whose ``calls`` are made complete; and what was compiled of them."""
    names = trace.ops["name"].astype(object).tolist()
    found = adopt_compiled(trace, linked, graphs)
    calls = [found.calls.get(i, call) for i, call in enumerate(calls)]
    return Described(found.launches, Operators(names, linked.ops, complete_calls(calls, linked.ops, found.launches))), found


def _reference(run: Run, trace: Trace, graphs: tuple[CompiledGraph, ...], found: list[Adopted]) -> Described:
    """Return what the trace without CUDA graphs tells: its launches are what those of the graphs are aligned with.

    What was compiled of them goes to ``found``.
    """
    trace = with_generated(trace)
    described, compiled = _described(trace, link(trace), _operator_calls(run, trace, read_steps(trace))[0], graphs)
    found.append(compiled)
    return described


def _describe(run: Run, linked: Linked, operators: Operators, limits: Limits) -> tuple[pd.DataFrame, tuple[Impossible, ...]]:
    """Return the launches with their kind, work, units, floors, occupancy and time of their own, and what cannot be true."""
    names, ops, calls = operators.names, operators.ops, operators.calls
    launches = classify_launches(linked.launches, calls, ops, names)
    launches = add_work(launches, calls, ops, names)
    launches = add_arithmetic(launches, limits.device, run.facts.settings if run.facts else None)
    launches, impossible = check_rates(launches, limits)
    launches = add_floors(launches, limits)
    launches = add_occupancy(launches, limits.device)
    return add_exclusive(launches, linked), impossible


def _subject(run: Run, launches: pd.DataFrame, calls: list[OpCall | None], limits: Limits, window: Window) -> Subject:
    """Return what the access model looks at: the run's own settings, or what its first convolution shows of its input."""
    facts = run.facts
    images, size = (facts.settings.batch_size, facts.settings.image_size or 0) if facts else input_of(calls)
    bandwidth = limits.bandwidth.value if limits.bandwidth else None
    batches = window.batches or passes_of(launches, calls)
    return subject_of(
        facts.model.label if facts else run.name,
        (images, size),
        limits.device,
        limits.sheet,
        bandwidth,
        batches,
    )


def _impossible(
    run: Run, trace: Trace, launches: pd.DataFrame, kernels: pd.DataFrame, limits: Limits
) -> tuple[Impossible, ...]:
    """Return what cannot be true of times and shares; rates are checked before they go into any sum."""
    times = (Impossible(what, kernel, run.trace_name, "", 0.0) for kernel, what in trace.impossible)
    # streams of several ranks share their numbers, so nothing can be said of who overlaps whom
    overlap = check_overlap(launches, limits) if len(ranks_in(trace)) <= 1 else ()
    return (*times, *overlap, *check_shares(kernels, limits), *check_ceilings(limits))


def compare(*runs: Analysis | str | Path) -> Study:
    """Return what a report on ``runs`` says: analyses, or run directories and traces that are analysed first.

    Two runs are compared: their ratio, the gap in parts that add up to it, and the verdict; the run of a ViT comes first,
    whatever the order given. Any other number of runs stands side by side. Runs of one model get labels that tell them apart.

    Raises:
        TraceError: a run is not there, or is no trace.
    """
    analyses = told_apart([run if isinstance(run, Analysis) else analyze(run) for run in runs])
    if not all(a.window.batches for a in analyses):  # one table has one basis: whole traces, where not all name steps
        analyses = tuple(replace(a, window=replace(a.window, batches=None)) for a in analyses)
    if len(analyses) == 2:
        return _pair(*analyses)
    ledgers = tuple(own_ledger(a) for a in analyses)
    return Study(analyses, say_one(analyses), findings=find_all(analyses), ledgers=ledgers)


def _pair(a: Analysis, b: Analysis) -> Study:
    if _family(b) == "vit" and _family(a) != "vit":
        a, b = b, a
    gap = explain(a, b)
    times = ratio(a.latency, b.latency) if a.latency and b.latency else None
    findings = find_all((a, b))
    fusion = find_fusion(a, b, gap, times, findings)
    return Study((a, b), say_pair(a, b, gap, times), times, gap, findings, (gap.one, gap.two), fusion)


def _family(analysis: Analysis) -> str:
    return analysis.run.facts.model.family if analysis.run.facts else ""


def _rank_warning(trace: Trace) -> tuple[str, ...]:
    ranks = ranks_in(trace)
    return (
        (f"the file holds {len(ranks)} ranks and the figures cover all of them; rank={ranks[0]} selects one",)
        if len(ranks) > 1
        else ()
    )


def _operator_calls(run: Run, trace: Trace, steps: tuple[Stretch, ...]) -> tuple[list[OpCall | None], tuple[str, ...]]:
    """Return the call of each operator: exact where the run recorded one, else from the trace's shapes."""
    calls = _described_calls(trace.ops)
    if run.ops is None:
        missing = ("ops.json.gz is missing, so bytes come from the shapes of inputs, without strides and outputs",)
        return calls, missing if run.facts and run.facts.settings.compile == "off" else ()
    exact = match_exact(trace.ops, read_calls(run.ops), steps)
    missed = sum(1 for _, start, end in steps if not _any_exact(trace, exact, start, end))
    warnings = (
        (f"{missed} of {len(steps)} traced steps ran other operators than the recorded one: bytes from shapes there",)
        if missed
        else ()
    )
    return [e if e is not None else c for e, c in zip(exact, calls, strict=True)], warnings


def _described_calls(ops: pd.DataFrame) -> list[OpCall | None]:
    """Return the call that the trace's own arguments describe, each distinct one parsed once."""
    columns = [ops[name].cat for name in ("name", "dims", "types", "strides", "concrete")]
    key = np.zeros(len(ops), np.int64)
    for column in columns:
        key = pd.factorize(key * len(column.categories) + column.codes.to_numpy())[0].astype(np.int64)
    first = np.unique(key, return_index=True)[1]
    texts = [column.categories.to_numpy(object)[column.codes.to_numpy()[first]] for column in columns]
    parsed = [parse_call(*row) for row in zip(*texts, strict=True)]
    return [parsed[k] for k in key.tolist()]


def _any_exact(trace: Trace, exact: list[OpCall | None], start: int, end: int) -> bool:
    inside = (trace.ops["start_ns"] >= start) & (trace.ops["start_ns"] <= end)
    return any(exact[i] is not None for i in np.flatnonzero(inside.to_numpy()))


def _main_dtype(launches: pd.DataFrame) -> str:
    """Return the element type with the most time."""
    known = launches[launches["dtype"] != ""]
    return str(known.groupby("dtype")["dur_ns"].sum().idxmax()) if len(known) else "dtype not recorded"
