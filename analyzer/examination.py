"""The spine of an examination: from a run directory or a bare trace to what it supports, and what is odd about it.

It reads, links and names kernels as an analysis does, and stops before work, floors and caches: nothing of these is asked here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import TraceError
from analyzer.format import counted, milliseconds
from analyzer.hardware.lookup import look_up
from analyzer.hardware.sheet import GpuSheet
from analyzer.insight.counter_support import Counted
from analyzer.insight.oddities import launch_calls, oddities
from analyzer.insight.recording import Subject, advise
from analyzer.insight.supports import GPU_MEMORY, Recorded, capabilities
from analyzer.metrics.occupancy import add_occupancy
from analyzer.schema.compiled import CompiledGraph
from analyzer.schema.examination import Examination
from analyzer.schema.run import DeviceFacts, Run
from analyzer.schema.tables import records
from analyzer.trace.arguments.convolution import convolution
from analyzer.trace.calls import parse_call
from analyzer.trace.compiled import read_compiled
from analyzer.trace.counters import counter_file, join
from analyzer.trace.envelope import Envelope, read_envelope
from analyzer.trace.generated import with_generated
from analyzer.trace.kinds import classify_launches
from analyzer.trace.kineto import Trace, read_trace
from analyzer.trace.link import Linked, link
from analyzer.trace.ranks import ranks_in
from analyzer.trace.regions import adopt_compiled
from analyzer.trace.replay import Described, Operators, adopt_ungraphed
from analyzer.trace.rundir import open_run, read_samples, read_timings
from analyzer.trace.source import MAX_EXPANSION

if TYPE_CHECKING:
    import pandas as pd

_CONVOLUTIONS = 50
"""Operators that are asked for the size of the model's input: its first convolution is among the first of a step."""

_ON_A_GPU = re.compile(
    r"::_?(?:cudnn|miopen|cublas|cutlass|cuda_)|::_?(?:thnn_fused|fused_\w+_cuda)|"
    r"_scaled_dot_product_(?:efficient|cudnn|flash)_attention(?!_for_cpu)|_(?:efficient_attention|flash_attention)_forward"
)
"""Operators that run on a GPU alone."""

_NAME = 200
"""Characters of a name that are looked at."""

_COLOURS, _MOST = 3, 1 << 20
"""Channels of an image, and more images or pixels than any model takes."""


def examine(
    source: str | Path,
    *,
    max_expansion: float = MAX_EXPANSION,
    sheet: GpuSheet | None = None,
    counters: Path | None = None,
) -> Examination:
    """Return what the run directory or the bare Kineto trace at ``source`` supports, and what is odd about it.

    Needs neither torch nor a GPU. ``sheet``: the user's own datasheet, which wins over the database. ``counters``: a file of
    hardware counters to use instead of the one that lies with the run; one that cannot be read is told, and is no error.

    Raises:
        TraceError: nothing is there, it is no trace, or it unpacks to more than ``max_expansion`` times its size.
    """
    recorded = _read(Path(source), max_expansion, sheet, counters)
    found, odd = capabilities(recorded), oddities(recorded)
    return Examination(
        name=recorded.run.name if recorded.run.facts else recorded.run.trace_name,
        subject=_subject_line(recorded),
        capabilities=found,
        oddities=odd,
        recording=advise({c.key: c for c in found}, odd, _subject(recorded)),
    )


def _read(source: Path, max_expansion: float, sheet: GpuSheet | None, counters: Path | None) -> Recorded:
    run = open_run(source)
    trace = with_generated(read_trace(run.trace, max_expansion=max_expansion))
    envelope = read_envelope(run.trace, max_expansion)
    on_gpu = len(trace.device_events) > 0
    speaks = run.facts is None and not on_gpu and (_used_gpu(trace) or bool(envelope.devices))
    device = run.facts.device if run.facts else _listed(envelope, trace.device) if speaks else trace.device
    linked = link(trace, shows_generated=run.compiled is not None)
    graphs = _graphs(run)
    found, unaligned = adopt_ungraphed(
        run, _described(trace, linked, graphs), lambda other: _described(other, link(other), graphs), max_expansion
    )
    operators = found.operators
    classified = classify_launches(found.launches, operators.calls, operators.ops, operators.names)
    launches = add_occupancy(classified, device)
    return Recorded(
        run=run,
        trace=trace,
        envelope=envelope,
        linked=linked,
        launches=launches,
        device=device,
        lookup=look_up(device, sheet),
        timings=read_timings(run),
        samples=read_samples(run),
        counted=_counted(run, trace, launches, counters),
        expects_gpu=on_gpu or device.type == "cuda" or speaks,
        unaligned=unaligned,
    )


def _described(trace: Trace, linked: Linked, graphs: tuple[CompiledGraph, ...]) -> Described:
    """Return the launches of a trace with its operators; an examination asks for no arguments."""
    names = trace.ops["name"].astype(object).tolist()
    return Described(adopt_compiled(trace, linked, graphs).launches, Operators(names, linked.ops, [None] * len(names)))


def _graphs(run: Run) -> tuple[CompiledGraph, ...]:
    """Return what torch.compile made; nothing where its file cannot be read, which is no reason to examine nothing."""
    try:
        return read_compiled(run.compiled) if run.compiled else ()
    except TraceError:
        return ()


def _counted(run: Run, trace: Trace, launches: pd.DataFrame, given: Path | None) -> Counted:
    """Return the counters that belong to a trace and how they match; why not where their file cannot be read."""
    try:
        file = counter_file(run, trace, given)
        return Counted(file, join(file, launches) if file is not None and not file.refused else None)
    except TraceError as error:
        return Counted(error=error.message)


def _used_gpu(trace: Trace) -> bool:
    """Tell whether a trace shows that a GPU was used: by kernels, launches, memory or operators that only a GPU has."""
    return (
        len(trace.device_events) > 0
        or bool(launch_calls(trace).any())
        or bool(trace.memory_events["device_type"].isin(GPU_MEMORY).any())
        or any(_ON_A_GPU.search(str(name)[:_NAME]) is not None for name in trace.ops["name"].cat.categories)
    )


def _listed(envelope: Envelope, unknown: DeviceFacts) -> DeviceFacts:
    """Return the facts of the GPU that the header lists, ``unknown`` where it lists none or GPUs of several models."""
    found = list(envelope.devices.values())
    return found[0] if len({device.name for device in found}) == 1 else unknown


def _subject_line(r: Recorded) -> str:
    rows = r.kernels
    time = milliseconds(float(rows["dur_ns"].sum()) / 1e3)
    what = counted(len(rows), "kernel", "kernels") if r.on_gpu else counted(len(rows), "operator", "operators")
    events = counted(r.trace.event_count, "event", "events")
    model = f"{r.run.facts.model.label} on " if r.run.facts else ""
    return f"{model}{_where(r)}: {what}, {time}; {events}"


def _where(r: Recorded) -> str:
    """Return what it ran on, as far as that is known."""
    if r.on_gpu or r.run.facts:
        return r.device.name
    if r.envelope.cut_off:
        return f"{'GPU' if r.expects_gpu else 'device'} not known, the file is cut off"
    if r.expects_gpu:
        return f"nothing recorded on {r.device.name if r.device.type == 'cuda' else 'a GPU'}"
    return "a CPU"


def _subject(r: Recorded) -> Subject:
    images, pixels, dtype = _input(r.trace)
    return Subject(
        on_gpu=r.expects_gpu,
        trace_name=r.run.trace_name if r.run.facts is None else "",
        capability=r.device.compute_capability,
        device="cuda" if _used_gpu(r.trace) else "auto" if r.expects_gpu or r.envelope.cut_off else "cpu",
        vendor=r.device.vendor,
        facts=r.run.facts,
        images=images,
        pixels=pixels,
        dtype=dtype,
        distributed=(r.trace.world_size or 1) > 1 or len(ranks_in(r.trace)) > 1 or r.collective,
    )


def _input(trace: Trace) -> tuple[int, int, str]:
    """Return images per batch, image size and element type of the model's input; 0 and an empty text where not told."""
    ops = trace.ops
    named = ops[ops["name"].astype(str).str.contains("conv", regex=False)].head(_CONVOLUTIONS)
    rows = records(named, "name", "dims", "types", "strides", "concrete")
    for row in rows:
        call = parse_call(*map(str, row))
        found = convolution(call) if call is not None else None
        if (
            found is not None
            and len(found.image.shape) == 4
            and found.image.shape[1] == _COLOURS < max(found.image.shape) < _MOST
        ):
            return found.image.shape[0], found.image.shape[2], found.image.dtype
    return 0, 0, ""
