"""One capture: every pass in its order, then the run directory, whole or not at all."""

from __future__ import annotations

import datetime
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from analyzer.capture import calibrate, latency, meta, modes, operands, profiler
from analyzer.capture.environment import device_facts, device_uuid, versions
from analyzer.capture.failures import explain
from analyzer.capture.presets import Resolved, resolve
from analyzer.capture.repeats import run_repeat
from analyzer.capture.running import Ready, check_memory, prepared
from analyzer.capture.telemetry import sampled
from analyzer.capture.workload import display_name
from analyzer.progress import Reporter, Stage
from analyzer.schema.run import (
    RUN_FORMAT_VERSION,
    MemoryFacts,
    ModelFacts,
    PassFacts,
    RunFacts,
    RunSettings,
    WarmupFacts,
)
from analyzer.schema.settings import CaptureSettings, ModelChoice
from analyzer.schema.tables import SAMPLES, TIMINGS
from analyzer.trace import rundir

_ATTENTION = "aten::_scaled_dot_product_"
_COMPILED = (
    "the code is compiled: the trace names no modules, what was fused has no operator of its own (on a CPU it counts for the "
    "“Torch-Compiled Region” around it), and operands are not recorded: bytes come from the shapes of inputs"
)


def plan(choice: ModelChoice, settings: CaptureSettings) -> dict[str, object]:
    """Return what ``capture`` would do: presets resolved, passes, files. Builds on the meta device alone.

    Raises:
        AnalyzerError: what ``capture`` would refuse before it starts.
    """
    with _quiet():
        resolved, found = _inspected(choice, settings)
    passes: dict[str, object] = {
        "warmup": f"until steady, {resolved.warmup_max_s:g} s at most",
        "untraced": resolved.iterations,
        "traced": resolved.traced_steps,
    }
    if resolved.compile == "off":
        passes["operands"] = 1
    if resolved.repeats > 1:
        passes["repeats"] = resolved.repeats - 1
    return {
        "model": display_name(choice),
        "label": choice.label,
        "family": choice.family,
        "parameters": found.parameters,
        "device": str(resolved.device),
        "batch_size": resolved.batch_size,
        "image_size": resolved.image_size,
        "dtype": resolved.dtype,
        "layout": resolved.layout,
        "attention": resolved.attention if choice.family != "cnn" else None,
        "compile": resolved.compile,
        "calibrate": resolved.calibrate,
        "passes": passes,
        "directory": str(settings.out_root / _run_name(choice, resolved, "<time>")),
        "files": [
            rundir.RUN_FILE,
            rundir.TRACE_FILE,
            *([rundir.OPS_FILE] if resolved.compile == "off" else []),
            rundir.TIMINGS_FILE,
            rundir.SAMPLES_FILE,
        ],
        "notes": [*resolved.notes, *([f"not checked on meta: {found.reason}"] if found.reason else [])],
    }


def capture(choice: ModelChoice, settings: CaptureSettings, reporter: Reporter) -> Path:
    """Run every pass for ``choice`` and return the run directory.

    Raises:
        AnalyzerError: the choice cannot be meant or met, or the device failed; nothing is left on disk.
    """
    with _quiet():
        with reporter.stage(f"{choice.label}: check"):
            resolved, found = _inspected(choice, settings)
        name = _run_name(choice, resolved, datetime.datetime.now().strftime("%Y%m%d-%H%M%S"))
        with rundir.new_directory(settings.out_root, name) as directory:
            session = _Session(choice, settings, resolved, reporter, directory.path)
            session.warnings += resolved.notes
            if resolved.compile != "off":
                session.warnings.append(_COMPILED)
            if found.reason:
                session.warnings.append(f"the input could not be checked beforehand: {found.reason}")
            try:
                session.run(name)
            except OSError as error:
                raise explain(error, display_name(choice), str(resolved.device), resolved.dtype) from error
    if directory.final is None:
        raise AssertionError("the block ended without an error")
    return directory.final


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of timm and torch, about their own future
        yield


def _inspected(choice: ModelChoice, settings: CaptureSettings) -> tuple[Resolved, meta.Inspection]:
    resolved = resolve(settings, choice.family)
    found = meta.inspect(choice, resolved.batch_size, resolved.image_size, resolved.tensor_dtype)
    check_memory(choice, resolved, found)
    return resolved, found


def _run_name(choice: ModelChoice, resolved: Resolved, stamp: str) -> str:
    parts = [display_name(choice), resolved.device.type, f"b{resolved.batch_size}", str(resolved.image_size)]
    modes_of_run = (
        ("nhwc", resolved.layout != "contiguous"),
        (resolved.attention, resolved.attention != "auto"),
        (resolved.compile, resolved.compile != "off"),
    )
    return "-".join([*parts, resolved.dtype, *(name for name, named in modes_of_run if named), stamp])


@dataclass
class _Session:
    """The state of one capture, filled in pass by pass."""

    choice: ModelChoice
    settings: CaptureSettings
    resolved: Resolved
    reporter: Reporter
    path: Path
    timings: latency.Timings = field(default_factory=latency.Timings)
    passes: list[PassFacts] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def run(self, name: str) -> None:
        """Run the passes and write every file."""
        if self.resolved.device.type == "cuda":
            torch.cuda.set_device(self.resolved.device)  # the ceilings' buffers and events too
        facts, found_versions = device_facts(self.resolved.device), versions()
        with self._pass("calibrate") as (stage, about):
            ceilings = calibrate.calibrate(self.resolved, facts, found_versions)
            stage.note = about["note"] = {"cache": "from the cache"}.get(ceilings.origin, ceilings.origin)
            self.warnings += ceilings.warnings
        with ExitStack() as stack:
            with self._pass("build"):
                ready = stack.enter_context(prepared(self.choice, self.resolved))
            with sampled(self.path, self.resolved.sample_period_s, *self._gpu()) as telemetry:
                warmup, allocated, of_graphs = self._measure(ready)
                traced = self._trace(ready)
                if self.resolved.compile == "off":
                    self._operands(ready)
            memory = self._peak(traced, allocated, of_graphs)
            model, settings = self._model_facts(ready, self._attention(traced.operators)), self._settings_facts()
            if settings.dtype == "float32" and (settings.convolution_tf32 or settings.matmul_precision in ("high", "medium")):
                self.warnings.append("dtype=float32 forbids TF32, and the model allows it again")
        self._repeats()
        rundir.write_table(self.path / rundir.TIMINGS_FILE, pd.DataFrame(self.timings.rows), TIMINGS)
        rundir.write_table(self.path / rundir.SAMPLES_FILE, telemetry.frame(), SAMPLES)
        facts_of_run = RunFacts(
            format_version=RUN_FORMAT_VERSION,
            name=name,
            created_utc=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            device=facts,
            model=model,
            settings=settings,
            versions=found_versions,
            warmup=warmup,
            memory=memory,
            telemetry=telemetry.facts,
            ceilings=ceilings.found,
            passes=tuple(self.passes),
            warnings=tuple(self.warnings),
            command=self.settings.command,
        )
        rundir.write_facts(self.path, facts_of_run)

    def _gpu(self) -> tuple[bool, str | None]:
        return self.resolved.device.type == "cuda", device_uuid(self.resolved.device)

    @contextmanager
    def _pass(self, name: str, total: int | None = None) -> Iterator[tuple[Stage, dict[str, Any]]]:
        """Show and time one pass; what the block puts into the dictionary (``steps``, ``note``) goes to its facts."""
        about: dict[str, Any] = {}
        start = time.time_ns()
        with self.reporter.stage(f"{self.choice.label}: {name}", total) as stage:
            yield stage, about
        self.passes.append(PassFacts(name=name, start_unix_ns=start, end_unix_ns=time.time_ns(), **about))

    def _measure(self, ready: Ready) -> tuple[WarmupFacts, MemoryFacts, MemoryFacts | None]:
        """Return how the warm-up ended, the peak of the untraced pass, and what that is if CUDA graphs, asked for, ran."""
        clock, device = latency.Clock(self.resolved.device), self.resolved.device
        with self._pass("warmup") as (stage, about):
            warmup = latency.warm_up(ready.step, clock, self.resolved, self.timings)
            about |= {"steps": warmup.iterations, "note": warmup.note}
            steady = f"steady after {warmup.iterations} iterations" if warmup.steady else ""
            stage.note = "; ".join(note for note in (warmup.note, steady) if note)
        with self._pass("untraced", self.resolved.iterations) as (stage, about):
            graphs = modes.asks_for_graphs(self.resolved)
            was_reset = latency.reset_peak(device, replays=graphs)
            before = len(self.timings.rows)
            latency.measure(ready.step, clock, self.resolved, self.timings, stage.advance)
            of_graphs = latency.peak_of_graphs(device) if graphs else None
            allocated = latency.peak_memory(device, was_reset)
            about["steps"] = len(self.timings.rows) - before
        return warmup, allocated, of_graphs

    def _peak(self, traced: profiler.Written, allocated: MemoryFacts, of_graphs: MemoryFacts | None) -> MemoryFacts:
        """Return the peak of what ran, and warn where CUDA graphs were asked for and the trace shows none."""
        if of_graphs is None or traced.graphs is not False:
            return of_graphs or allocated
        self.warnings.append(
            f"compile={self.resolved.compile} asks for CUDA graphs, and the trace shows none: torch.compile skipped them "
            "(TORCH_LOGS=perf_hints says why)"
        )
        return allocated

    def _trace(self, ready: Ready) -> profiler.Written:
        """Record the traced steps; return what stands in the trace."""
        compiled = self.resolved.compile != "off"
        steps = self.resolved.traced_steps
        with self._pass("traced", steps) as (stage, about):
            recorded = profiler.trace_steps(
                None if compiled else ready.model,
                ready.step,
                self.resolved.device,
                steps,
                self.timings,
                stage.advance,
                stacks=self.resolved.stacks,
            )
            what = "recorded shapes, call stacks" if self.resolved.stacks else "recorded shapes"
            scopes = "; no module scopes: the code is compiled" if compiled else " and module scopes"
            about |= {"steps": steps, "note": f"times with the profiler, {what}{scopes}"}
        with self.reporter.stage(f"{self.choice.label}: write trace") as stage:
            written = profiler.write_trace(recorded, self.path / rundir.TRACE_FILE)
            stage.note = f"{written.events} events"
        return written

    def _operands(self, ready: Ready) -> None:
        """Record the operands of one step. Not of compiled code, whose steps run other operators than the eager model's."""
        with self._pass("operands", 1) as (stage, about):
            ops = operands.record_step(ready.step, self.resolved.device, self.path)
            about["steps"] = 1
            stage.note = f"{len(ops)} operators"
            operands.write_ops(self.path / rundir.OPS_FILE, ops)

    def _attention(self, traced: frozenset[str]) -> str | None:
        """Return which implementations of attention the trace names, and warn of one that was not asked for.

        Compiled code may name none: it replays a CUDA graph, or spells attention out as products (attention=math).
        """
        found = sorted(n.removeprefix(_ATTENTION) for n in traced if n.startswith(_ATTENTION))
        asked = self.resolved.attention
        if asked != "auto" and not found:
            why = "the model calls no scaled_dot_product_attention"
            told = f"attention={asked} had no effect: {why}"
            compiled = f"attention={asked}: the compiled code does not tell which implementation ran"
            self.warnings.append(told if self.resolved.compile == "off" else compiled)
        elif asked != "auto" and any(asked not in name for name in found):
            self.warnings.append(f"attention={asked} was asked for, and what ran is {', '.join(found)}")
        return ", ".join(found) or None

    def _repeats(self) -> None:
        others = self.resolved.repeats - 1
        if not others:
            return
        with self._pass("repeats", others) as (stage, about):
            for repeat in range(1, others + 1):
                rows, note = run_repeat(self.choice, self.settings, self.resolved, repeat, self.path)
                self.timings.rows += rows
                if note:
                    self.warnings.append(f"repeat {repeat}: {note}")
                stage.advance()
            about["steps"] = others

    def _model_facts(self, ready: Ready, attention: str | None) -> ModelFacts:
        return ModelFacts(
            name=display_name(self.choice),
            family=self.choice.family,
            label=self.choice.label,
            parameters=ready.parameters,
            input_shape=ready.input_shape,
            factory=self.choice.factory,
            attention_backend=attention,
        )

    def _settings_facts(self) -> RunSettings:
        on_gpu, single = self.resolved.device.type == "cuda", self.resolved.tensor_dtype == "float32"
        untraced = sum(row["pass"] == "untraced" for row in self.timings.rows)
        return RunSettings(
            batch_size=self.resolved.batch_size,
            image_size=self.resolved.image_size,
            dtype=self.resolved.dtype,
            iterations=untraced,
            traced_steps=self.resolved.traced_steps,
            repeats=self.resolved.repeats,
            threads=torch.get_num_threads(),
            seed=self.resolved.seed,
            memory_format=modes.FORMAT_NAMES[self.resolved.layout],
            execution=modes.execution(self.resolved.compile),
            cudnn_benchmark=torch.backends.cudnn.benchmark if on_gpu else None,
            matmul_precision=modes.matmul_precision(self.resolved.device) if single else None,
            convolution_tf32=modes.convolution_tf32() if on_gpu and single else None,
            attention=self.resolved.attention if self.choice.family != "cnn" else None,
            compile=self.resolved.compile,
        )
