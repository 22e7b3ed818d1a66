"""What a recorded trace supports: each capability looked for in its tables and counted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analyzer.format import count, counted, milliseconds, percent, size
from analyzer.hardware.lookup import Lookup
from analyzer.insight.counter_support import Counted, counter_support
from analyzer.metrics.occupancy import missing_occupancy
from analyzer.schema.examination import CAPABILITIES, Capability, Status
from analyzer.schema.run import DeviceFacts, Run
from analyzer.trace.envelope import Envelope
from analyzer.trace.kineto import Trace
from analyzer.trace.link import ALIGNED, Linked, is_replayed
from analyzer.trace.ranks import ranks_in
from analyzer.trace.scopes import SOURCES

NEARLY_ALL = 0.95
"""A capability that this share has counts as there: a few operators never have shapes, a few kernels never a module."""

GPU_MEMORY = (1, 6)
"""``Device Type`` of memory events on a GPU: CUDA and HIP in c10::DeviceType."""

EARLIEST_NS, LATEST_NS = 1_420_070_400 * 10**9, 4_102_444_800 * 10**9
"""2015, before the first trace of PyTorch, and 2100, in Unix nanoseconds: a clock that reads anything else is not set."""

_CERTAIN = frozenset(("shapes", "strides", "latency", "telemetry", "calibration", "operands"))
"""What is known also of a file that is cut off: the operators that are there tell it, or it stands in other files."""
_OF_DEVICE = frozenset(("device", "datasheet"))
_OF_KERNELS = frozenset(("launches", "geometry", "resources", "occupancy"))
_GPU_ALONE = _OF_KERNELS | {"kernels", "graphs", "counters"}
_COLLECTIVE = r"^(?:gloo|nccl|mpi|ucc|xccl|hccl):"
"""Annotations that a process group of torch.distributed writes around a collective, called by its backend."""
_UNNAMED = "the trace does not name its GPU"
_NO_PEAKS = "no peaks: no roofline, no share of peak"
_SOURCES = {SOURCES[0]: "module scopes", SOURCES[1]: "nn.Module frames", SOURCES[2]: "user annotations, which may be anything"}


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """One trace as it was read: what an examination looks at.

    ``launches`` have their kind and their occupancy; ``counted`` are the hardware counters that belong to them. ``expects_gpu``
    tells whether anything in the trace speaks of a GPU, even if no kernel of it is there. ``unaligned`` says where the trace
    without CUDA graphs, if the run has one, did not help.
    """

    run: Run
    trace: Trace
    envelope: Envelope
    linked: Linked
    launches: pd.DataFrame
    device: DeviceFacts
    lookup: Lookup
    timings: pd.DataFrame
    samples: pd.DataFrame
    counted: Counted
    expects_gpu: bool
    unaligned: tuple[str, ...] = ()

    @property
    def on_gpu(self) -> bool:
        """Tell whether kernels, copies or fills of a GPU are in the trace."""
        return len(self.trace.device_events) > 0

    @property
    def kernels(self) -> pd.DataFrame:
        """Return the launches without copies and fills: kernels, on a CPU run operators."""
        return self.launches[self.launches["category"].isin(("kernel", "operator"))]

    @property
    def collective(self) -> bool:
        """Tell whether a collective of several devices or processes ran."""
        return bool(self.launches["kind"].eq("collective").any()) or self.collective_calls > 0

    @property
    def collective_calls(self) -> int:
        """Return how many collectives the host called, by the annotations of process groups."""
        return int(self.trace.annotations["name"].astype(str).str.contains(_COLLECTIVE, regex=True).sum())

    @property
    def no_kernel(self) -> str:
        """Return why there is nothing to say of kernels."""
        return "no kernel is in the trace" if self.expects_gpu else "a CPU run has none"

    def share_pct(self, chosen: pd.Series[bool]) -> float:
        """Return the share of ``chosen`` kernels in the time of all of them."""
        time = self.kernels["dur_ns"].to_numpy(np.float64)
        return float(100 * time[chosen.to_numpy(bool)].sum() / time.sum()) if time.sum() > 0 else float("nan")


def capabilities(r: Recorded) -> tuple[Capability, ...]:
    """Return every capability of CAPABILITIES in its order."""
    return tuple(_unless_cut_off(r, _LOOK[key](r)) for key in CAPABILITIES)


def _unless_cut_off(r: Recorded, found: Capability) -> Capability:
    """Return ``found``, as unknown where the trace has none of it and is cut off before it may have come."""
    if not r.envelope.cut_off or found.status not in ("no", "unused") or found.key in _CERTAIN:
        return found
    if found.key in _OF_KERNELS and r.on_gpu:
        return found  # counted in the kernels that are there
    if found.key in _OF_DEVICE and (r.run.facts is not None or r.envelope.devices):
        return found
    if found.key in _GPU_ALONE and r.run.facts is not None and r.device.type == "cpu":
        return found
    return Capability(found.key, "unknown", "not known, the file is cut off", found.consequence, found.count, found.total)


def _kernels(r: Recorded) -> Capability:
    rows = r.trace.kernels
    if len(rows):
        detail = f"{count(len(rows))} kernels, {milliseconds(float(rows['dur_ns'].sum()) / 1e3)} of kernel time"
        return Capability("kernels", "yes", detail, count=len(rows))
    if r.expects_gpu:
        lacking = "no times of kernels: if the model ran on a GPU, nothing can be said of it"
        return Capability("kernels", "no", "none, and the trace speaks of a GPU", lacking, 0)
    return Capability("kernels", "unused", "a CPU run: operators stand where kernels would", count=0)


def _operators(r: Recorded) -> Capability:
    n = len(r.trace.ops)
    lacking = "kernels have no operator: no shapes, no FLOP, no bytes, no roofline, no module"
    return Capability("operators", "yes" if n else "no", count(n) if n else "none", "" if n else lacking, n)


def _launches(r: Recorded) -> Capability:
    if not r.on_gpu:
        why = r.no_kernel if r.expects_gpu else "an operator is its own launch; there is no kernel to link"
        return Capability("launches", "unused", why)
    rows = r.kernels
    linked, called = rows["op_index"] >= 0, rows["launch"] != ""
    both = linked & called
    n = int(both.sum())
    detail = (
        f"operator known for {_of(int(linked.sum()), len(rows))} kernels ({percent(r.share_pct(linked))} of kernel time), "
        f"launch call for {_of(int(called.sum()), len(rows))}"
    )
    lacking = []
    if r.share_pct(linked) < 100 * NEARLY_ALL:
        lacking.append("unlinked kernels have no operator, shapes, FLOP, bytes or module")
    if r.share_pct(called) < 100 * NEARLY_ALL:
        lacking.append("without its launch call the idle time before a kernel has no cause")
    found = _graded("launches", n, len(rows), detail, "; ".join(lacking), r.share_pct(both))
    return replace(found, status="partly") if found.status == "no" and (linked | called).any() else found


def _shapes(r: Recorded) -> Capability:
    lacking = "no FLOP, no bytes, no roofline, no access model"
    return _of_operators(r, "shapes", "dims", lacking)


def _strides(r: Recorded) -> Capability:
    lacking = "operands are taken to be contiguous: views and channels_last are not seen"
    return _of_operators(r, "strides", "strides", lacking)


def _of_operators(r: Recorded, key: str, column: str, lacking: str) -> Capability:
    ops = r.trace.ops
    told = int((ops[column].astype(str) != "").sum())
    detail = f"recorded for {_of(told, len(ops))} operators" if told else "recorded for no operator"
    return _graded(key, told, len(ops), detail, lacking)


def _modules(r: Recorded) -> Capability:
    rows = r.kernels
    known = rows["module"] != ""
    n, share = int(known.sum()), r.share_pct(known)
    lacking = "no view by module: time cannot be laid on blocks and layers of the model"
    if not n:
        return Capability("modules", "no", "none", lacking, 0, len(rows))
    what = "kernels" if r.on_gpu else "operators"
    beside = " and from the trace without CUDA graphs" if (known & rows["link"].eq(ALIGNED)).any() else ""
    source = f"{'compiled.json.gz' if r.run.compiled else _SOURCES[r.linked.scopes.source]}{beside}"
    detail = f"known for {_of(n, len(rows))} {what} ({percent(share)} of their time), from {source}"
    found = _graded("modules", n, len(rows), detail, lacking, share)
    if r.linked.scopes.source == SOURCES[2] and not r.run.compiled and found.status == "yes":
        return Capability("modules", "partly", detail, "what is called a module may be any stretch of code", n, len(rows))
    return found


def _stacks(r: Recorded) -> Capability:
    frames, written = len(r.trace.stack_frames), int((r.trace.ops["stack"].astype(str) != "").sum())
    lacking = "no view by line of Python"
    if not frames and not written:
        return Capability("stacks", "no", "none", lacking, 0)
    detail = f"{count(frames)} Python frames" if frames else f"call stacks on {count(written)} operators"
    return Capability("stacks", "yes", f"{detail}; recording them slows the host", count=frames or written)


def _device(r: Recorded) -> Capability:
    d = r.device
    lacking = "no occupancy, no waves, no datasheet to hold times against"
    if d.type == "cpu":
        if r.expects_gpu:
            return Capability("device", "no", _UNNAMED, lacking)
        if r.run.facts is None:
            return Capability("device", "no", "a trace tells nothing of the processor", "the page names no processor")
        return Capability("device", "yes", d.name)
    by = "" if r.on_gpu or r.run.facts else "; listed in the header, nothing in the trace ran on it"
    facts = {
        "name": d.name if not d.name.startswith("GPU (") else None,
        "compute capability": d.compute_capability,
        "multiprocessors": f"{d.sm_count} multiprocessors" if d.sm_count else None,
        "memory": size(d.memory_bytes) if d.memory_bytes else None,
    }
    known = [text if key != "compute capability" else f"cc {text}" for key, text in facts.items() if text]
    missing = [key for key, text in facts.items() if not text]
    detail = ", ".join(known) + (f"; not told: {', '.join(missing)}" if missing else "") + by
    status: Status = "yes" if not missing else "partly" if known else "no"
    return Capability("device", status, detail if known else "none", lacking if missing else "", len(known), len(facts))


def _datasheet(r: Recorded) -> Capability:
    if r.device.type == "cpu":
        if r.expects_gpu:
            return Capability("datasheet", "no", _UNNAMED, _NO_PEAKS)
        return Capability("datasheet", "unused", "a CPU has none here; its ceilings are measured")
    sheet = r.lookup.sheet
    if sheet is not None:
        return Capability("datasheet", "yes", sheet.name)
    return Capability("datasheet", "no", r.lookup.reason, _NO_PEAKS)


def _geometry(r: Recorded) -> Capability:
    return _of_kernels(r, "geometry", lambda k: (k["grid"] != "") & (k["block"] != ""), "no waves, no tiles, no occupancy")


def _resources(r: Recorded) -> Capability:
    return _of_kernels(r, "resources", lambda k: k["registers"].notna() & k["shared_bytes"].notna(), "no occupancy")


def _occupancy(r: Recorded) -> Capability:
    if not r.on_gpu:
        return Capability("occupancy", "unused", r.no_kernel)
    found = _of_kernels(r, "occupancy", lambda k: k["occupancy_pct"].notna(), "no resident blocks, no waves, no tail")
    own = f"Kineto's own figure on {count(int(r.kernels['occupancy_kineto_pct'].notna().sum()))}"
    if found.count:
        detail = f"can be computed for {_of(found.count, found.total or 0)} kernels; {own}"
        return Capability("occupancy", found.status, detail, found.consequence, found.count, found.total)
    why = missing_occupancy(r.device)
    return Capability("occupancy", "no", f"cannot be computed: {why}; {own}", found.consequence, 0, found.total)


def _of_kernels(r: Recorded, key: str, has: Callable[[pd.DataFrame], pd.Series[bool]], lacking: str) -> Capability:
    if not r.on_gpu:
        return Capability(key, "unused", r.no_kernel)
    rows = r.kernels
    n = int(has(rows).sum())
    return _graded(key, n, len(rows), f"recorded for {_of(n, len(rows))} kernels" if n else "none", lacking)


def _graphs(r: Recorded) -> Capability:
    rows = r.kernels
    of_graph = pd.Series(is_replayed(rows), index=rows.index)
    n, told = int(of_graph.sum()), int((of_graph & (rows["graph_node"] >= 0)).sum())
    if not n:
        return Capability("graphs", "unused", "no kernel was launched by a CUDA graph" if r.on_gpu else r.no_kernel, count=0)
    share = percent(r.share_pct(of_graph))
    detail = f"{count(n)} kernels from CUDA graphs ({share} of kernel time), with the node of the graph on {count(told)}"
    return _graded("graphs", told, n, detail, "nodes of a graph cannot be told apart")


def _steps(r: Recorded) -> Capability:
    n = len(r.linked.steps)
    lacking = "sums over the whole trace, nothing per step"
    detail = f"{n}: {r.linked.steps[0][0][:40]}{f' to {r.linked.steps[-1][0][:40]}' if n > 1 else ''}" if n else "none"
    return Capability("steps", "yes" if n else "no", detail, "" if n else lacking, n)


def _memory(r: Recorded) -> Capability:
    rows = r.trace.memory_events
    lacking = "no memory curve and no peak"
    if not len(rows):
        return Capability("memory", "no", "none", lacking, 0)
    on_gpu = int(rows["device_type"].isin(GPU_MEMORY).sum())
    totals = bool(rows["allocated_bytes"].notna().any())
    detail = f"{count(len(rows))} events" + (f", {count(on_gpu)} of them on a GPU" if r.expects_gpu else "")
    if r.expects_gpu and not on_gpu:
        return Capability("memory", "partly", detail, "the memory curve is that of the host alone", len(rows))
    if not totals:
        return Capability(
            "memory", "partly", f"{detail}; changes without totals", "the curve has no absolute height", len(rows)
        )
    return Capability("memory", "yes", detail, count=len(rows))


def _clock(r: Recorded) -> Capability:
    base, first = r.trace.base_unix_ns, r.linked.first_ns
    told = "baseTimeNanoseconds is there" if base else "no baseTimeNanoseconds (Kineto before May 2024)"
    if EARLIEST_NS < base + first < LATEST_NS:
        return Capability("clock", "yes", told if base else f"{told}, but the times are Unix times themselves")
    lacking = "samples of clocks and power cannot be laid over the trace, and its date is not known"
    return Capability("clock", "no", f"{told}, and the times are no Unix times", lacking)


def _ranks(r: Recorded) -> Capability:
    merged, trace = ranks_in(r.trace), r.trace
    if merged:
        return Capability("ranks", "yes", f"{len(merged)} ranks in this file", count=len(merged))
    if trace.rank is not None:
        of = f" of {trace.world_size}" if trace.world_size else ""
        return Capability("ranks", "yes", f"rank {trace.rank}{of}", count=1)
    if r.collective or r.envelope.distributed:
        return Capability("ranks", "no", "a distributed job, and the trace does not tell its rank", "rank= cannot select it")
    return Capability("ranks", "unused", "nothing in the trace speaks of a distributed job")


def _collectives(r: Recorded) -> Capability:
    rows = r.kernels
    chosen = rows["kind"] == "collective"
    n, calls = int(chosen.sum()), r.collective_calls
    what = counted(n, "kernel", "kernels") if r.on_gpu else counted(n, "operator", "operators")
    said = [f"{what}, {percent(r.share_pct(chosen))} of {'kernel' if r.on_gpu else 'operator'} time"] * bool(n)
    said += [f"{counted(calls, 'call', 'calls')} by the host"] * bool(calls)
    if not said:
        return Capability("collectives", "unused", "none ran", count=0)
    return Capability("collectives", "yes", "; ".join(said), count=n or calls)


def _counters(r: Recorded) -> Capability:
    if not r.on_gpu:
        return Capability("counters", "unused", r.no_kernel)
    return counter_support(r.counted, len(r.trace.counter_ranges), r.run.facts.counters if r.run.facts else None)


def _latency(r: Recorded) -> Capability:
    rows = r.timings[r.timings["pass"] == "untraced"]
    lacking = "every time includes the profiler's own cost, and no difference has an interval"
    if not len(rows):
        why = "a bare trace has none" if r.run.facts is None else "timings.csv is missing or has no untraced iteration"
        return Capability("latency", "no", why, lacking, 0)
    processes = counted(int(rows["repeat"].nunique()), "process", "processes")
    return Capability("latency", "yes", f"{count(len(rows))} iterations in {processes}", count=len(rows))


def _telemetry(r: Recorded) -> Capability:
    lacking = "it is not known whether clocks were held down, nor what energy a batch takes"
    n, facts = len(r.samples), r.run.facts
    if not n:
        return Capability("telemetry", "no", "a bare trace has none" if facts is None else "no samples", lacking, 0)
    nvml = facts.telemetry.nvml if facts and facts.telemetry else None
    if r.device.type == "cuda" and (nvml is None or not nvml.available):
        why = nvml.reason if nvml and nvml.reason else "not recorded"
        return Capability("telemetry", "partly", f"{count(n)} samples of the host; of the GPU: {why}", lacking, n)
    what = "GPU and host" if r.device.type == "cuda" else "processor"
    return Capability("telemetry", "yes", f"{counted(n, 'sample', 'samples')} of the {what}", count=n)


def _calibration(r: Recorded) -> Capability:
    found = r.run.facts.ceilings if r.run.facts else ()
    lacking = "no floors and no roofline" if r.device.type == "cpu" else "floors rest on the datasheet alone"
    if not found:
        return Capability("calibration", "no", "none", lacking, 0)
    return Capability("calibration", "yes", ", ".join(f"{c.name} {c.dtype}" for c in found), count=len(found))


def _operands(r: Recorded) -> Capability:
    lacking = "outputs and their strides are inferred from the operators that follow"
    there = r.run.ops is not None
    return Capability("operands", "yes" if there else "no", "ops.json.gz" if there else "none", "" if there else lacking)


def _graded(key: str, told: int, total: int, detail: str, lacking: str, share_pct: float | None = None) -> Capability:
    """Return a capability by how much has it: by ``share_pct`` of the time where that is given, else by number."""
    share = told / total if total else 0.0
    if share_pct is not None and not math.isnan(share_pct):
        share = share_pct / 100
    status: Status = "no" if not told else "yes" if share >= NEARLY_ALL else "partly"
    return Capability(key, status, detail, "" if status == "yes" else lacking, told, total)


def _of(told: int, total: int) -> str:
    return f"all {count(total)}" if told == total else f"{count(told)} of {count(total)}"


_LOOK: dict[str, Callable[[Recorded], Capability]] = {
    "kernels": _kernels, "operators": _operators, "launches": _launches, "shapes": _shapes, "strides": _strides,
    "modules": _modules, "stacks": _stacks, "device": _device, "datasheet": _datasheet, "geometry": _geometry,
    "resources": _resources, "occupancy": _occupancy, "graphs": _graphs, "steps": _steps, "memory": _memory, "clock": _clock,
    "ranks": _ranks, "collectives": _collectives, "counters": _counters, "latency": _latency, "telemetry": _telemetry,
    "calibration": _calibration, "operands": _operands,
}  # fmt: skip
