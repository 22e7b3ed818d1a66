"""Counts in runs that are recorded already: each is whole before, and whatever happens here costs it nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch

from analyzer.capture.ncu import provider
from analyzer.capture.presets import resolve
from analyzer.capture.privacy import masked_text
from analyzer.capture.repeats import fixed
from analyzer.progress import Reporter
from analyzer.schema.run import CounterFacts, PassFacts
from analyzer.schema.settings import CaptureSettings, ModelChoice
from analyzer.trace import rundir

PASS = "counters"
_INTERRUPTED = "interrupted while counting"


def count(runs: Sequence[tuple[Path, ModelChoice]], settings: CaptureSettings, reporter: Reporter) -> None:
    """Read hardware counters for each run directory and its model, in processes of their own, and tell in its ``run.json``.

    Nothing is read where the run says already that it cannot be. One small kernel is counted first. What blocks the first run
    blocks the others without a try.
    """
    blocked: CounterFacts | None = None
    for path, choice in runs:
        resolved = resolve(settings, choice.family)
        prepared = provider.prepare("none" if settings.counters == "none" else "auto", resolved)
        if prepared is None or not prepared.ready:
            continue
        if blocked is not None:
            _tell(path, blocked, [])
            continue
        job = provider.Job(choice, fixed(settings, resolved), path)
        blocked = _count(prepared, resolved.device, job, choice.label, reporter)


def _count(
    prepared: provider.Prepared, device: torch.device, job: provider.Job, label: str, reporter: Reporter
) -> CounterFacts | None:
    """Count for one run; return what came of it if that would meet other runs too."""
    start, groups = time.time_ns(), len(prepared.groups)
    name = f"{label}: {PASS}, starts the model {groups} times under ncu, tens of seconds each; counters=none leaves it out"
    try:
        with reporter.stage(name, groups) as stage:
            prepared = provider.tried(prepared, device)
            found = _obstructed(prepared) or provider.count(prepared, job, stage.advance)
            told = f"{found.launches} kernels" if found.facts.available else found.facts.reason
            stage.note = f"Nsight Compute {found.facts.version}: {told}"
    except BaseException as error:
        why = _INTERRUPTED if not isinstance(error, Exception) else f"{type(error).__name__}: {error}"
        lost = provider.waiting(prepared)
        if lost is not None:
            _tell(job.directory, msgspec.structs.replace(lost, reason=masked_text(why)[:500]), [], _span(start, 0))
        if not isinstance(error, Exception):
            reporter.say(f"{label}: {_INTERRUPTED}; the run is kept, without counters: {job.directory}")
            raise
        return None
    _tell(job.directory, found.facts, found.warnings, _span(start, found.facts.passes))
    return found.facts if found.blocked else None


def _obstructed(prepared: provider.Prepared) -> provider.Counted | None:
    """Return the end of a pass that a trial on one kernel showed to be in vain; None where it may go on."""
    facts = None if prepared.ready else provider.waiting(prepared)
    return None if facts is None else provider.Counted(facts, blocked=True)


def _span(start: int, passes: int) -> PassFacts:
    note = "one step a group of counters; no time comes from it"
    return PassFacts(name=PASS, start_unix_ns=start, end_unix_ns=time.time_ns(), steps=passes, note=note)


def _tell(directory: Path, facts: CounterFacts, warnings: Sequence[str], span: PassFacts | None = None) -> None:
    """Put what came of the counters into ``run.json``."""
    run = rundir.read_facts(directory / rundir.RUN_FILE)
    passes = (*run.passes, span) if span is not None else run.passes
    rundir.write_facts(
        directory, msgspec.structs.replace(run, counters=facts, warnings=(*run.warnings, *warnings), passes=passes)
    )
