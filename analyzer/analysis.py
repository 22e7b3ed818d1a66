"""The spine: from a run directory or a bare trace to everything that a report may say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from analyzer.access.launches import add_access, input_of, passes_of
from analyzer.access.result import Subject
from analyzer.access.subject import subject_of
from analyzer.hardware.sheet import GpuSheet
from analyzer.insight.digest import digest
from analyzer.insight.gap import explain
from analyzer.insight.ledger import own_ledger
from analyzer.insight.rules import find_all
from analyzer.insight.verdict import say_one, say_pair
from analyzer.metrics.allocations import memory_profiles
from analyzer.metrics.arithmetic import add_arithmetic, used_units
from analyzer.metrics.attribution import add_work
from analyzer.metrics.capacities import capacity_facts
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
from analyzer.schema.digest import Digest
from analyzer.schema.operators import OpCall
from analyzer.schema.results import Analysis, Impossible, Study, Window
from analyzer.schema.run import Run
from analyzer.schema.settings import Selection
from analyzer.trace.calls import match_exact, parse_call, read_calls
from analyzer.trace.completion import complete_calls
from analyzer.trace.kinds import classify_launches
from analyzer.trace.kineto import Trace, read_trace
from analyzer.trace.link import Linked, link
from analyzer.trace.ranks import ranks_in, select_rank
from analyzer.trace.reading import Ahead
from analyzer.trace.rundir import open_run, read_samples, read_timings
from analyzer.trace.scopes import Stretch, read_steps


def analyze(
    source: str | Path,
    selection: Selection = Selection(),  # noqa: B008 - frozen
    ahead: Ahead | None = None,
    sheet: GpuSheet | None = None,
) -> Analysis:
    """Return the analysis of a run directory or of a bare Kineto trace, or of the part of it that ``selection`` names.

    Needs neither torch nor a GPU. ``ahead``: another process has begun to read its trace. ``sheet``: the user's own datasheet,
    which wins over the database.

    Raises:
        TraceError: nothing is there, it is no trace, or it has no such part.
        OtherRankError: the trace is of another rank than the selected one.
    """
    run = open_run(Path(source))
    trace = read_trace(run.trace, max_expansion=selection.max_expansion, ahead=ahead)
    trace = select_rank(trace, selection.rank)
    device = run.facts.device if run.facts else trace.device
    linked = link(trace, selection)
    calls, warnings = _operator_calls(run, trace, read_steps(trace))
    limits = limits_of(run, device, sheet)
    calls = complete_calls(calls, linked.ops, linked.launches)
    launches, impossible = _describe(run, trace, linked, calls, limits)
    window = choose_window(linked)
    launches, access = add_access(launches, calls, _subject(run, launches, calls, limits, window), on_gpu=device.type == "cuda")

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
        warnings=(*(run.facts.warnings if run.facts else ()), *trace.warnings, *_rank_warning(trace), *warnings),
        segments=linked.segments,
        steps=linked.steps,
        base_unix_ns=trace.base_unix_ns,
        foreign=linked.foreign or ((), ()),
        impossible=(*impossible, *_impossible(run, trace, launches, kernels, limits)),
        access=access,
        host=host_view(trace, linked, launches, window),
        memory=memory_profiles(trace, linked, window),
        trace_versions=trace.versions,
    )


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


def _describe(
    run: Run, trace: Trace, linked: Linked, calls: list[OpCall | None], limits: Limits
) -> tuple[pd.DataFrame, tuple[Impossible, ...]]:
    """Return the launches with their kind, work, units, floors, occupancy and time of their own, and what cannot be true."""
    names = trace.ops["name"].astype(object).tolist()
    launches = classify_launches(linked.launches, calls, linked.ops, names)
    launches = add_work(launches, calls, linked.ops, names)
    launches = add_arithmetic(launches, limits.device, run.facts.settings if run.facts else None)
    launches, impossible = check_rates(launches, limits)
    launches = add_floors(launches, limits)
    launches = add_occupancy(launches, limits.device)
    return add_exclusive(launches, linked), impossible


def _subject(run: Run, launches: pd.DataFrame, calls: list[OpCall | None], limits: Limits, window: Window) -> Subject:
    """Return what the access model looks at: the run's own settings, or what its first convolution shows of its input."""
    facts = run.facts
    images, size = (facts.settings.batch_size, facts.settings.image_size) if facts else input_of(calls)
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
    whatever the order given. Any other number of runs stands side by side.

    Raises:
        TraceError: a run is not there, or is no trace.
    """
    analyses = tuple(run if isinstance(run, Analysis) else analyze(run) for run in runs)
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
    return Study((a, b), say_pair(a, b, gap, times), times, gap, find_all((a, b)), (gap.one, gap.two))


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
