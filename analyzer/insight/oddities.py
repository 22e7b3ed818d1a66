"""What is odd about a recorded trace: lost events, ranks mixed, compilation inside, times that no device can have."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from analyzer.format import count, counted, digits, milliseconds, percent
from analyzer.insight.supports import EARLIEST_NS, GPU_MEMORY, LATEST_NS, Recorded
from analyzer.metrics.guard import check_overlap, clock_resolution_ns
from analyzer.metrics.limits import Limits
from analyzer.schema.examination import Oddity
from analyzer.trace.kinds import NOT_CLASSIFIED
from analyzer.trace.kineto import Trace
from analyzer.trace.launching import has_launch
from analyzer.trace.link import ALIGNED, is_replayed
from analyzer.trace.ranks import ranks_in

KINETO_SHARED_BYTES = 48 * 1024
"""Shared memory of a block above which Kineto's own occupancy is 0 (see ``analyzer.metrics.occupancy``)."""

FIRST_STEP = 1.5
"""A first step this many times as long as the median of the others was no steady one."""

OUTSIDE_PCT = 1.0
UNCLASSIFIED_PCT = 5.0
_LAUNCH = re.compile(r"launch.*kernel|graph_?launch", re.IGNORECASE)
_LOADING = re.compile(
    r"^(?:cu|cuda|hip)(?:Module|Library)Load|^(?:cuda|hip)Stream(?:Begin|End)Capture|^(?:cu|cuda|hip)GraphInstantiate|(?:dynamo_timed)",
)
_ALLOCATING = re.compile(r"^(?:cuda|hip)(?:Malloc(?!Info|.*Async)|HostAlloc|HostMalloc)|^cuMemCreate|^cuMemAlloc(?!.*Async)")
"""Calls that ask the driver for memory. The Async ones take it from a pool, which a warm model does in every step."""
_OPTIMIZER = "Optimizer.step"
_HOUR_NS = 3600 * 10**9
_YEAR_NS = 8766 * _HOUR_NS
_MAX_NS = 1 << 63
_OTHER_DEVICES = "kernels ran on "
_LOADS_CODE = "Lazy Function Loading"
"""Event of the profiler's own for the time in which the driver loads the code of kernels that run for the first time."""


def oddities(r: Recorded) -> tuple[Oddity, ...]:
    """Return what is odd, gravest first: what is lost, what is mixed, what is no inference, what is not steady, the rest."""
    found = (
        _damage, _no_kernels, _launches_without, _kernels_without, _impossible, _ranks, _devices, _training, _noted, _loading,
        _allocating, _first_step, _outside_steps, _graphs, _zero_occupancy, _unclassified, _clock, _whole_microseconds,
        _old_format, _overhead,
    )  # fmt: skip
    return tuple(oddity for look in found for oddity in look(r))


def _damage(r: Recorded) -> Iterator[Oddity]:
    for text in r.trace.warnings:
        if not text.startswith(_OTHER_DEVICES):
            yield Oddity("damaged", text, "figures cover what could be read")


def _noted(r: Recorded) -> Iterator[Oddity]:
    facts = r.run.facts
    if facts is None:
        return
    for text in facts.warnings:
        yield Oddity("recorded_warning", text, "noted while the run was recorded")
    if not facts.warmup.steady:
        finding = f"warm-up ended unsteady after {counted(facts.warmup.iterations, 'iteration', 'iterations')}"
        yield Oddity("unsteady", finding, "times may still have been falling; warmup_max_s= allows more")


def _no_kernels(r: Recorded) -> Iterator[Oddity]:
    if r.on_gpu:
        return
    launched = int(launch_calls(r.trace).sum())
    if launched:
        finding = f"{counted(launched, 'launch', 'launches')} of kernels by the runtime, and not one kernel in the trace"
        yield Oddity("no_kernels", finding, "operators show what the host did, not the GPU", launched)
    elif r.envelope.devices and r.expects_gpu and not r.envelope.cut_off:
        names = ", ".join(dict.fromkeys(device.name for device in r.envelope.devices.values()))
        finding = f"the header lists a GPU ({names}), and nothing in the trace ran on one"
        off = "CUDA activities were off while it ran on the GPU"
        used = r.trace.memory_events["device_type"].isin(GPU_MEMORY).any()
        yield Oddity(
            "gpu_unused", finding, f"memory was taken there, so {off}" if used else f"the model ran on the CPU, or {off}"
        )


def _launches_without(r: Recorded) -> Iterator[Oddity]:
    chosen = launch_calls(r.trace)
    known = set(r.trace.device_events["correlation"].tolist())
    lost = int((chosen & (r.trace.calls["correlation"] > 0) & ~r.trace.calls["correlation"].isin(known)).sum())
    if r.on_gpu and lost:
        finding = f"{count(lost)} of {count(int(chosen.sum()))} launches have no kernel"
        meaning = "their kernels were dropped, or ran after the recording ended; their time is missing from every sum"
        yield Oddity("launches_without_kernel", finding, meaning, lost)


def _kernels_without(r: Recorded) -> Iterator[Oddity]:
    rows = r.kernels
    alone = pd.Series(~has_launch(rows), index=rows.index)
    n = int(alone.sum())
    if r.on_gpu and n:
        share = r.share_pct(alone)
        finding = f"{count(n)} of {count(len(rows))} kernels ({percent(share)} of kernel time) have no launch in the trace"
        meaning = "they were launched before the recording began, or the events of the runtime are not recorded or lost"
        yield Oddity("kernels_without_launch", finding, meaning, n, share)


def _impossible(r: Recorded) -> Iterator[Oddity]:
    for kernel, what in r.trace.impossible:
        yield Oddity("impossible_time", f"{what} (first: {kernel[:80]})", "no device can have done it; such times count as 0")
    if len(ranks_in(r.trace)) > 1:
        return  # streams of several ranks share their numbers
    for found in check_overlap(r.launches, Limits(r.device, r.lookup.sheet, r.lookup.reason)):
        what = f"{found.what} (first: {found.kernel[:80]})"
        n = int(found.what.split()[0])
        if found.explanation:
            yield Oddity("dependent_launch", what, found.explanation, n)
        else:
            yield Oddity("overlap", what, "a stream runs one kernel at a time, so times or streams are wrong", n)


def _ranks(r: Recorded) -> Iterator[Oddity]:
    ranks = ranks_in(r.trace)
    if len(ranks) > 1:
        finding = f"the file holds {len(ranks)} ranks: {', '.join(map(str, ranks[:8]))}{' ...' if len(ranks) > 8 else ''}"
        yield Oddity("several_ranks", finding, f"figures cover all of them; rank={ranks[0]} selects one", len(ranks))


def _devices(r: Recorded) -> Iterator[Oddity]:
    events = r.trace.device_events
    for text in r.trace.warnings:
        if text.startswith(_OTHER_DEVICES):
            yield Oddity("mixed_devices", text, "occupancy and peaks are wrong for the kernels of the other device")
    used = sorted(set(events["device"].tolist()))
    unlisted = [i for i in used if r.envelope.devices and i not in r.envelope.devices]
    if unlisted:
        listed = ", ".join(map(str, sorted(r.envelope.devices)))
        finding = f"kernels ran on device {', '.join(map(str, unlisted[:8]))}; the header lists device {listed} alone"
        yield Oddity(
            "device_not_listed", finding, "the facts of the listed device are taken to be those of the other", len(unlisted)
        )
    elif len(used) > 1:
        finding = f"kernels ran on {len(used)} devices ({', '.join(map(str, used[:8]))})"
        yield Oddity("several_devices", finding, "sums cover all of them", len(used))


def _training(r: Recorded) -> Iterator[Oddity]:
    backward = r.trace.ops["forward_thread"].gt(0) & r.trace.ops["sequence"].ge(0)
    steps = int(r.trace.annotations["name"].astype(str).str.startswith(_OPTIMIZER).sum())
    n = int(backward.sum())
    if n or steps:
        said = [f"{count(n)} backward operators"] * bool(n) + [counted(steps, "optimizer step", "optimizer steps")] * bool(
            steps
        )
        finding = f"training, not inference: {' and '.join(said)}"
        yield Oddity("training", finding, "times are of forward, backward and update together", n or steps)


def _loading(r: Recorded) -> Iterator[Oddity]:
    said = []
    for table in (r.trace.calls, r.trace.ops, r.trace.annotations):
        rows = table[_named(table["name"], _LOADING)]
        if len(rows):
            time = milliseconds(float((rows["end_ns"] - rows["start_ns"]).max()) / 1e3)
            said.append(f"{counted(len(rows), 'call', 'calls')} like {str(rows['name'].iloc[0])[:60]} (longest {time})")
    lazy = r.envelope.overhead_us.get(_LOADS_CODE, 0.0)
    if lazy:
        said.append(f"{_LOADS_CODE}, {milliseconds(lazy)}")
    if said:
        meaning = "code is compiled, loaded or captured only at first: the recording is not of a warm model"
        yield Oddity("loading", f"code is loaded or compiled inside the recording: {'; '.join(said)}", meaning, len(said))


def _allocating(r: Recorded) -> Iterator[Oddity]:
    rows = r.trace.calls[_named(r.trace.calls["name"], _ALLOCATING)]
    if len(rows):
        time = milliseconds(float((rows["end_ns"] - rows["start_ns"]).sum()) / 1e3)
        finding = f"the allocator takes memory inside the recording: {counted(len(rows), 'call', 'calls')} like "
        finding += f"{str(rows['name'].iloc[0])[:40]}, {time}"
        yield Oddity("allocating", finding, "a warm model has all of its memory: more warm-up is needed", len(rows))


def _first_step(r: Recorded) -> Iterator[Oddity]:
    lengths = [end - start for _, start, end in r.linked.steps]
    if len(lengths) < 3:
        return
    others = float(np.median(lengths[1:]))
    if others > 0 and lengths[0] > FIRST_STEP * others:
        finding = (
            f"the first step lasts {milliseconds(lengths[0] / 1e3)} on the host, the median of the others "
            f"{milliseconds(others / 1e3)} ({digits(lengths[0] / others)}x)"
        )
        yield Oddity("first_step", finding, "it warmed up; steps= leaves it out of a report", 1)


def _outside_steps(r: Recorded) -> Iterator[Oddity]:
    rows = r.kernels
    outside = rows["step"] < 0
    n, share = int(outside.sum()), r.share_pct(outside)
    if r.linked.steps and n and share > OUTSIDE_PCT:
        what = "kernels" if r.on_gpu else "operators"
        finding = f"{count(n)} {what} ({percent(share)} of their time) were launched outside of every profiler step"
        some = "steps= selects some" if n < len(rows) else "there is nothing that steps= could select"
        yield Oddity("outside_steps", finding, f"nothing is divided by the number of steps; {some}", n, share)


def _graphs(r: Recorded) -> Iterator[Oddity]:
    of_graph = pd.Series(is_replayed(r.kernels), index=r.kernels.index)
    n, share = int(of_graph.sum()), r.share_pct(of_graph)
    if not n:
        return
    finding = f"{count(n)} kernels ({percent(share)} of kernel time) were launched by CUDA graphs"
    aligned = int(r.kernels["link"].eq(ALIGNED).sum())
    if not aligned:
        yield Oddity("graph_kernels", finding, "a graph has no operators: no shapes, FLOP, bytes or module for them", n, share)
    else:
        known = percent(r.share_pct(r.kernels["link"] == ALIGNED))
        rest = f"; {count(n - aligned)} have no operator, shapes, FLOP, bytes or module" if aligned < n else ""
        meaning = f"the trace without graphs gives {count(aligned)} of them ({known} of kernel time) their operators{rest}"
        yield Oddity("graph_kernels_aligned", finding, meaning, n, share)
    for note in r.unaligned:
        yield Oddity("graph_kernels_not_aligned", note, "these kernels have no shapes, FLOP, bytes or module")


def _zero_occupancy(r: Recorded) -> Iterator[Oddity]:
    rows = r.kernels
    zero = rows["occupancy_kineto_pct"].eq(0) & rows["shared_bytes"].gt(KINETO_SHARED_BYTES)
    n, share = int(zero.sum()), r.share_pct(zero)
    if n:
        large = int(rows["shared_bytes"].gt(KINETO_SHARED_BYTES).sum())
        finding = (
            f"Kineto writes occupancy 0 for {count(n)} of {count(large)} kernels above 48 KiB of shared memory "
            f"({percent(share)} of kernel time)"
        )
        known = int(rows.loc[zero, "occupancy_pct"].notna().sum())
        meaning = (
            f"Kineto asks with the default limit of 48 KiB; the report computes occupancy itself, for {count(known)} of them"
        )
        yield Oddity("zero_occupancy", finding, meaning, n, share)


def _unclassified(r: Recorded) -> Iterator[Oddity]:
    unknown = r.kernels["kind"].isin(NOT_CLASSIFIED)
    n, share = int(unknown.sum()), r.share_pct(unknown)
    if n and share > UNCLASSIFIED_PCT:
        what = "kernels" if r.on_gpu else "operators"
        finding = f"{count(n)} {what} ({percent(share)} of their time) are of no known kind"
        yield Oddity("unclassified", finding, "they stand under other or unclassified in every table", n, share)


def _clock(r: Recorded) -> Iterator[Oddity]:
    base, first = r.trace.base_unix_ns, r.linked.first_ns
    if EARLIEST_NS < base + first < LATEST_NS or (r.envelope.cut_off and not base):
        return
    year = f"of the year {1970 + base // _YEAR_NS}" if abs(base) < _MAX_NS else "no time that a clock gives"
    said = f"the clock base is {year}" if base else "there is no clock base"
    late = f"{digits(first / _HOUR_NS)} hours" if abs(first) > _HOUR_NS else milliseconds(first / 1e3)
    finding = f"{said}, and the first event is at {late}"
    yield Oddity("clock_base", finding, "a clock that counts from the start of the machine, or was not set: no date is known")


def _whole_microseconds(r: Recorded) -> Iterator[Oddity]:
    rows = r.kernels
    if not r.on_gpu or len(rows) < 2 or clock_resolution_ns(r.launches) == 1:
        return
    none = int(rows["dur_ns"].eq(0).sum())
    said = f"; {counted(none, 'kernel has', 'kernels have')} a duration of 0" if none else ""
    yield Oddity("whole_microseconds", f"times are whole microseconds{said}", "short kernels are off by up to 1 µs each", none)


def _old_format(r: Recorded) -> Iterator[Oddity]:
    signs = []
    capitals = sorted({"Kernel", "Operator", "Runtime"} & set(r.envelope.categories))
    if capitals:
        signs.append(f"categories are written {', '.join(capitals)}")
    n = len(r.trace.memory_events)
    if n and r.trace.memory_events["address"].lt(0).all():
        signs.append("memory events have no address (traces before 2022)")
    if signs:
        yield Oddity("old_format", f"an old version of Kineto: {'; '.join(signs)}", "it tells less than a recent one")


def _overhead(r: Recorded) -> Iterator[Oddity]:
    spent = {name: time for name, time in r.envelope.overhead_us.items() if time > 0}
    if spent:
        most = sorted(spent.items(), key=lambda item: -item[1])[:3]
        said = ", ".join(f"{name[:40]} {milliseconds(time)}" for name, time in most)
        finding = f"the profiler reports overhead of its own: {said}"
        yield Oddity(
            "profiler_overhead",
            finding,
            "the host may have waited meanwhile, so idle time of the GPU may be too long",
            len(spent),
        )


def launch_calls(trace: Trace) -> pd.Series[bool]:
    """Tell which calls of the runtime and driver launch kernels or graphs of them."""
    return _named(trace.calls["name"], _LAUNCH)


def _named(names: pd.Series[str], pattern: re.Pattern[str]) -> pd.Series[bool]:
    """Tell which of ``names``, a categorical column, hold ``pattern``; each distinct name is asked once."""
    hits = np.array([pattern.search(str(name)[:1000]) is not None for name in names.cat.categories], bool)
    found = hits[names.cat.codes.to_numpy()] if len(hits) else np.zeros(len(names), bool)
    return pd.Series(found, index=names.index, dtype=bool)
