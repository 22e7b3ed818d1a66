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

from analyzer.capture import calibrate, latency, meta, operands, profiler
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
        "operands": 1,
    }
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
        "calibrate": resolved.calibrate,
        "passes": passes,
        "directory": str(settings.out_root / _run_name(choice, resolved, "<time>")),
        "files": [rundir.RUN_FILE, rundir.TRACE_FILE, rundir.OPS_FILE, rundir.TIMINGS_FILE, rundir.SAMPLES_FILE],
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
    resolved = resolve(settings)
    found = meta.inspect(choice, resolved.batch_size, resolved.image_size, resolved.dtype)
    check_memory(choice, resolved, found)
    return resolved, found


def _run_name(choice: ModelChoice, resolved: Resolved, stamp: str) -> str:
    parts = [display_name(choice), resolved.device.type, f"b{resolved.batch_size}", str(resolved.image_size)]
    return "-".join([*parts, resolved.dtype, stamp])


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
                warmup, memory = self._measure(ready)
                self._trace(ready)
                attention = self._operands(ready)
            model, settings = self._model_facts(ready, attention), self._settings_facts()
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

    def _measure(self, ready: Ready) -> tuple[WarmupFacts, MemoryFacts]:
        clock = latency.Clock(self.resolved.device)
        with self._pass("warmup") as (stage, about):
            warmup = latency.warm_up(ready.step, clock, self.resolved, self.timings)
            about |= {"steps": warmup.iterations, "note": warmup.note}
            stage.note = warmup.note or f"steady after {warmup.iterations} iterations"
        with self._pass("untraced", self.resolved.iterations) as (stage, about):
            was_reset = latency.reset_peak(self.resolved.device)
            before = len(self.timings.rows)
            latency.measure(ready.step, clock, self.resolved, self.timings, stage.advance)
            memory = latency.peak_memory(self.resolved.device, was_reset)
            about["steps"] = len(self.timings.rows) - before
        return warmup, memory

    def _trace(self, ready: Ready) -> None:
        steps = self.resolved.traced_steps
        with self._pass("traced", steps) as (stage, about):
            recorded = profiler.trace_steps(
                ready.model,
                ready.step,
                self.resolved.device,
                steps,
                self.timings,
                stage.advance,
                stacks=self.resolved.stacks,
            )
            what = "recorded shapes, call stacks" if self.resolved.stacks else "recorded shapes"
            about |= {"steps": steps, "note": f"times with the profiler, {what} and module scopes on"}
        with self.reporter.stage(f"{self.choice.label}: write trace") as stage:
            events = profiler.write_trace(recorded, self.path / rundir.TRACE_FILE)
            stage.note = f"{events} events"

    def _operands(self, ready: Ready) -> str | None:
        with self._pass("operands", 1) as (stage, about):
            ops = operands.record_step(ready.step, self.resolved.device, self.path)
            about["steps"] = 1
            stage.note = f"{len(ops)} operators"
            operands.write_ops(self.path / rundir.OPS_FILE, ops)
        backends = {op["name"].removeprefix(_ATTENTION) for op in ops if op["name"].startswith(_ATTENTION)}
        return ", ".join(sorted(backends)) or None

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
        on_gpu = self.resolved.device.type == "cuda"
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
            memory_format="contiguous (NCHW)",
            execution="eager",
            cudnn_benchmark=torch.backends.cudnn.benchmark if on_gpu else None,
            matmul_precision=torch.get_float32_matmul_precision() if self.resolved.dtype == "float32" else None,
            convolution_tf32=torch.backends.cudnn.allow_tf32 if on_gpu and self.resolved.dtype == "float32" else None,
        )
