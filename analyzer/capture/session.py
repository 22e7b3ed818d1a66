"""One capture: every pass in its order, then the run directory, whole or not at all."""

from __future__ import annotations

import datetime
import functools
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import torch

from analyzer.capture import attention, calibrate, compiled, latency, looping, meta, modes, operands, profiler
from analyzer.capture.compiled import ungraphed
from analyzer.capture.environment import device_facts, device_uuid, versions
from analyzer.capture.failures import explain, first_line
from analyzer.capture.ncu import provider as ncu
from analyzer.capture.presets import Resolved, resolve
from analyzer.capture.privacy import masked_text
from analyzer.capture.process_state import unchanged
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
    SourceFacts,
    WarmupFacts,
)
from analyzer.schema.settings import CaptureSettings, ModelChoice
from analyzer.schema.tables import SAMPLES, TIMINGS
from analyzer.trace import rundir


def plan(choice: ModelChoice, settings: CaptureSettings) -> dict[str, object]:
    """Return what ``capture`` would do: presets resolved, passes, files. Builds on the meta device alone.

    Raises:
        AnalyzerError: what ``capture`` would refuse before it starts.
    """
    with _quiet():
        resolved, found = _inspected(choice, settings)
        counting = ncu.prepare(settings.counters, resolved)
    passes: dict[str, object] = {
        "warmup": f"until steady, {resolved.warmup_max_s:g} s at most",
        "untraced": resolved.iterations,
        "traced": resolved.traced_steps,
    }
    if resolved.device.type == "cuda" and settings.counters != "none":
        passes["looped"] = f"{looping.LOOP_S:g} s, where the device has GPM"
    if resolved.compile == "off":
        passes["operands"] = 1
    if modes.asks_for_graphs(resolved):
        passes["ungraphed"] = "1, where CUDA graphs ran"
    if resolved.repeats > 1:
        passes["repeats"] = resolved.repeats - 1
    if counting is not None and counting.ready:
        passes["counters"] = f"{len(counting.groups)} processes under ncu; counters=none leaves them out"
    return {
        "model": display_name(choice),
        "label": choice.label,
        "family": choice.family,
        "parameters": found.parameters,
        "device": str(resolved.device),
        "batch_size": found.batch_size,
        "image_size": found.image_size,
        "input_shape": list(found.shape),
        "weights": choice.weights and Path(choice.weights).name,
        "dtype": resolved.dtype,
        "autocast": resolved.autocast,
        "input": resolved.input,
        "cudnn_benchmark": resolved.cudnn_benchmark,
        "layout": resolved.layout,
        "attention": resolved.attention if choice.family != "cnn" else None,
        "compile": resolved.compile,
        "calibrate": resolved.calibrate,
        "passes": passes,
        "directory": str(settings.out_root / _run_name(choice, resolved, found, "<time>")),
        "files": [
            rundir.RUN_FILE,
            rundir.TRACE_FILE,
            rundir.OPS_FILE if resolved.compile == "off" else rundir.COMPILED_FILE,
            *([rundir.UNGRAPHED_FILE] if modes.asks_for_graphs(resolved) else []),
            rundir.TIMINGS_FILE,
            rundir.SAMPLES_FILE,
            *([rundir.COUNTERS_FILE] if counting is not None and counting.ready else []),
        ],
        "notes": [
            *resolved.notes,
            *([f"not checked on meta: {found.reason}"] if found.reason else []),
            *([f"no hardware counters: {counting.obstacle.reason}"] if counting is not None and counting.obstacle else []),
        ],
    }


def capture(choice: ModelChoice, settings: CaptureSettings, reporter: Reporter) -> Path:
    """Run every pass for ``choice`` but that of counters, and return the run directory; ``counting.count`` may follow.

    Raises:
        AnalyzerError: the choice cannot be meant or met, or the device failed; nothing is left on disk.
    """
    with _quiet():
        with reporter.stage(f"{choice.label}: check"):
            resolved, found = _inspected(choice, settings)
            counting = ncu.prepare(settings.counters, resolved)
            if counting is not None and settings.counters == "ncu":
                ncu.try_out(counting, resolved.device)
        name = _run_name(choice, resolved, found, datetime.datetime.now().strftime("%Y%m%d-%H%M%S"))
        with rundir.new_directory(settings.out_root, name) as directory:
            session = _Session(choice, settings, resolved, reporter, directory.path, counting)
            session.warnings += resolved.notes
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
    with unchanged():
        found = meta.inspect(choice, resolved.batch_size, resolved.image_size, resolved.tensor_dtype)
    meta.check_sizes(found, choice, settings)
    check_memory(choice, resolved, found)
    return resolved, found


def _run_name(choice: ModelChoice, resolved: Resolved, found: meta.Inspection, stamp: str) -> str:
    size = [str(found.image_size)] if found.image_size else []
    parts = [display_name(choice)[:80], resolved.device.type, f"b{found.batch_size}", *size]
    modes_of_run = (
        ("autocast", resolved.autocast),
        ("host", resolved.input == "host"),
        ("cudnnbench", bool(resolved.cudnn_benchmark)),
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
    counting: ncu.Prepared | None = None
    timings: latency.Timings = field(default_factory=latency.Timings)
    passes: list[PassFacts] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    eager: bool = False
    """Whether the model runs eagerly: without torch.compile, or because that compiled nothing."""

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
            recorder = stack.enter_context(compiled.recording(ready.model)) if self.resolved.compile != "off" else None
            with sampled(self.path, self.resolved.sample_period_s, *self._gpu()) as telemetry:
                warmup, allocated, of_graphs = self._measure(ready, recorder)
                looped = self._loop(ready)
                traced = self._trace(ready)
                if recorder is None or self.eager:
                    self._operands(ready)
                else:
                    self._compiled(recorder, ready, traced)
            memory = self._peak(traced, allocated, of_graphs)
            model, settings = self._model_facts(ready, self._attention(traced)), self._settings_facts(ready)
            self.warnings += modes.unmet(self.resolved, settings)
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
            telemetry=msgspec.structs.replace(telemetry.facts, looped=looped) if telemetry.facts else None,
            counters=ncu.waiting(self.counting),
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

    def _measure(self, ready: Ready, recorder: compiled.Recorder | None) -> tuple[WarmupFacts, MemoryFacts, MemoryFacts | None]:
        """Return how the warm-up ended, the peak of the untraced pass, and what that is if CUDA graphs, asked for, ran."""
        clock, device = latency.Clock(self.resolved.device), self.resolved.device
        with self._pass("warmup") as (stage, about):
            warmup = latency.warm_up(
                ready.step, clock, self.resolved, self.timings, functools.partial(self._settled, ready, recorder)
            )
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

    def _loop(self, ready: Ready) -> SourceFacts:
        """Run the model for some seconds without a gap where the sampler reads GPM of it; say why not elsewhere."""
        device = self.resolved.device
        why_not = looping.refusal(device, self._gpu()[1], self.settings.counters)
        if why_not:
            return SourceFacts(available=False, reason=why_not)
        with self._pass("looped") as (_, about):
            steps = looping.loop(ready.step, device, self.resolved.sample_period_s)
            about |= {"steps": steps, "note": "batches without a gap, for GPM; no latency comes from it"}
        return SourceFacts(available=True)

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
        eager = self.eager
        steps = self.resolved.traced_steps
        with self._pass("traced", steps) as (stage, about):
            recorded = profiler.trace_steps(
                ready.model if eager else None,
                ready.step,
                self.resolved.device,
                steps,
                self.timings,
                stage.advance,
                stacks=self.resolved.stacks,
            )
            what = "recorded shapes, call stacks" if self.resolved.stacks else "recorded shapes"
            named = f"; no module scopes: {rundir.COMPILED_FILE} names the modules of compiled code"
            scopes = " and module scopes" if eager else named
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

    def _settled(self, ready: Ready, recorder: compiled.Recorder | None) -> latency.Step:
        """Return the step to go on with: where nothing was compiled, without torch.compile, which may try again each time."""
        told, made = recorder.objection(self.resolved.compile) if recorder is not None else ("", False)
        self.warnings += [told] if told else []
        self.eager = not made
        if recorder is not None and self.eager:
            ready.step = ready.compiled_as("off")
        return ready.step

    def _compiled(self, recorder: compiled.Recorder, ready: Ready, traced: profiler.Written) -> None:
        """Write what torch.compile made, and one step of it without CUDA graphs where it ran in them."""
        with self.reporter.stage(f"{self.choice.label}: write compiled code") as stage:
            stage.note = f"{recorder.write(self.path / rundir.COMPILED_FILE)} kernel calls"
        if recorder.notes:
            self.warnings.append(f"what torch.compile made is not known in full: {'; '.join(recorder.notes)}")
        if modes.asks_for_graphs(self.resolved) and traced.graphs:
            self._ungraphed(ready)

    def _ungraphed(self, ready: Ready) -> None:
        mode, path = modes.without_graphs(self.resolved), self.path / rundir.UNGRAPHED_FILE
        try:
            with self._pass("ungraphed", 1) as (_, about):
                ungraphed.trace_step(ready, self.resolved, path)
                why = "for the operators of what the CUDA graphs replay; no time comes from it"
                about |= {"steps": 1, "note": f"compiled again without CUDA graphs (mode {mode}), {why}"}
        except Exception as error:  # noqa: BLE001 - everything that was asked for has been measured
            path.unlink(missing_ok=True)
            why = f"{type(error).__name__}: {masked_text(first_line(error))}"
            self.warnings.append(f"what the CUDA graphs replay has no operators: the run without them failed: {why}")

    def _attention(self, traced: profiler.Written) -> str | None:
        """Return which implementations of attention ran, by operators and kernels; warn of one that was not asked for."""
        found = attention.ran(traced.operators, traced.kernels)
        told = attention.objection(self.resolved.attention, found, compiled=self.resolved.compile != "off")
        self.warnings += [told] if told else []
        return found.text

    def _repeats(self) -> None:
        others = self.resolved.repeats - 1
        if not others:
            return
        mode = "off" if self.eager else self.resolved.compile
        ways = replace(self.settings, compile=mode), replace(self.resolved, compile=mode)
        with self._pass("repeats", others) as (stage, about):
            for repeat in range(1, others + 1):
                rows, note = run_repeat(self.choice, *ways, repeat, self.path)
                self.timings.rows += rows
                if note:
                    self.warnings.append(f"repeat {repeat}: {note}")
                stage.advance()
            about["steps"] = others

    def _model_facts(self, ready: Ready, backend: str | None) -> ModelFacts:
        return ModelFacts(
            name=display_name(self.choice),
            family=self.choice.family,
            label=self.choice.label,
            parameters=ready.parameters,
            input_shape=ready.input_shape,
            factory=self.choice.factory,
            weights=Path(self.choice.weights).name if self.choice.weights else None,
            attention_backend=backend,
        )

    def _settings_facts(self, ready: Ready) -> RunSettings:
        on_gpu, single = self.resolved.device.type == "cuda", self.resolved.tensor_dtype == "float32"
        untraced = sum(row["pass"] == "untraced" for row in self.timings.rows)
        return RunSettings(
            batch_size=ready.batch_size,
            image_size=ready.image_size,
            dtype=self.resolved.dtype,
            iterations=untraced,
            traced_steps=self.resolved.traced_steps,
            repeats=self.resolved.repeats,
            threads=torch.get_num_threads(),
            seed=self.resolved.seed,
            memory_format=modes.FORMAT_NAMES[self.resolved.layout],
            execution=modes.execution(self.resolved.compile, eager=self.eager),
            cudnn_benchmark=torch.backends.cudnn.benchmark if on_gpu else None,
            matmul_precision=modes.matmul_precision(self.resolved.device) if single else None,
            convolution_tf32=modes.convolution_tf32() if on_gpu and single else None,
            attention=self.resolved.attention if self.choice.family != "cnn" else None,
            compile=self.resolved.compile,
            autocast=self.resolved.autocast,
            input=self.resolved.input,
        )
