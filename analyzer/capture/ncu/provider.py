"""Decides beforehand whether and what to count, then counts group by group and keeps what came whole."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from analyzer.capture import permission, processes
from analyzer.capture.failures import MEMORY_HINT
from analyzer.capture.ncu import command, locate, page, supervise
from analyzer.capture.ncu.failure import FOLLOWS, ROOM, FailedError, end_of, errors, explained, refused
from analyzer.capture.permission import Obstacle, together
from analyzer.capture.presets import Resolved
from analyzer.capture.privacy import masked_text
from analyzer.capture.probe import Trial, probe
from analyzer.errors import DeviceError, TraceError, UnsupportedError
from analyzer.hardware import counters
from analyzer.schema.run import CounterFacts
from analyzer.schema.settings import ModelChoice
from analyzer.trace.rundir import COUNTERS_FILE

LIMIT_S = 180.0
"""Longest time for one group: a process that starts, builds the model and warms up, with kernels one after the other."""
PRINT_LIMIT_S = 60.0
"""Longest time for printing what was counted of a group."""
TOTAL_LIMIT_S = 480.0
"""Longest time for all groups of one model."""

_ROUNDS = 5
"""How often a group is tried with fewer names, where ncu does not know some."""
_TOO_LONG = "end what else uses ncu or nsys here; (it waits for them); or use a smaller model or batch_size; or counters=none"
_NOT_ASKED = Obstacle("not asked for: counters=none, as in a sweep without counters=ncu", "repeat with counters=ncu")
_UNFINISHED = Obstacle("the pass that counts was not run, or did not come to its end", "run again with counters=ncu")
_AMD = Obstacle("Nsight Compute counts on NVIDIA GPUs only, and rocprofv3 is not supported yet", "")
_CACHES = ("dram__", "lts__", "l1tex__")
"""Metrics that depend on what the caches hold, so that a repeated kernel gives other figures than a run."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What will be counted: ``groups`` of metrics with ``tool``; or ``obstacle``, why nothing will be.

    ``unknown``: names in ``groups`` that ncu refused in a trial, so that they are not asked for again.
    """

    capability: str = ""
    tool: locate.Tool | None = None
    groups: tuple[tuple[str, ...], ...] = ()
    obstacle: Obstacle | None = None
    unknown: frozenset[str] = frozenset()

    @property
    def ready(self) -> bool:
        """Tell whether anything will be counted."""
        return self.obstacle is None and self.tool is not None and bool(self.groups)


@dataclass(frozen=True, slots=True)
class Job:
    """The model to count, with plain ``settings`` that leave nothing to presets, and where files may go.

    ``limit_s`` for a group, ``total_s`` for all of them.
    """

    choice: ModelChoice
    settings: dict[str, Any]
    directory: Path
    limit_s: float = LIMIT_S
    total_s: float = TOTAL_LIMIT_S


@dataclass
class Counted:
    """What came of the pass: ``facts`` for run.json, ``warnings`` for its readers, ``launches`` counted.

    ``blocked``: nothing came, and for a reason that would meet another model on this machine too.
    """

    facts: CounterFacts
    warnings: list[str] = field(default_factory=list)
    launches: int = 0
    blocked: bool = False


def prepare(asked: str, resolved: Resolved) -> Prepared | None:
    """Return what can be counted on the device of ``resolved``, None on a CPU. ``asked``: the setting ``counters``.

    Raises:
        UnsupportedError: ``asked`` is ncu, and the device is none that ncu counts on.
        DeviceError: ``asked`` is ncu, and what can be known beforehand forbids it.
    """
    if resolved.device.type != "cuda":
        if asked == "ncu":
            raise UnsupportedError(f"counters=ncu needs an NVIDIA GPU, and {resolved.device} is none", "use counters=auto")
        return None
    found = Prepared(obstacle=_NOT_ASKED) if asked == "none" else _examined(resolved)
    if asked == "ncu" and found.obstacle is not None:
        raise DeviceError(f"counters=ncu: {found.obstacle.reason}", found.obstacle.hint or "use counters=auto")
    return found


def _examined(resolved: Resolved) -> Prepared:
    if torch.version.hip is not None:
        return Prepared(obstacle=_AMD)
    capability = _capability(resolved.device)
    # a run in float32 forbids TF32, so its tensor cores are idle and a pass for them would count nothing
    groups = counters.groups(capability, "" if resolved.dtype == "float32" else resolved.dtype)
    if not groups:
        reason = f"no counters are known for compute capability {capability}"
        return Prepared(capability, obstacle=Obstacle(reason, "counters are read from compute capability 7.0 on"))
    tool, state = locate.find(capability), permission.driver_state()
    # all at once: one repair may not be enough
    obstacle = together([found for found in (state, tool) if isinstance(found, Obstacle)])
    return (
        Prepared(capability, obstacle=obstacle) if isinstance(tool, Obstacle) else Prepared(capability, tool, groups, obstacle)
    )


def tried(found: Prepared, device: torch.device) -> Prepared:
    """Return ``found`` after counting one small kernel with each group: with the obstacle met, or the names that ncu refused.

    What forbids counters is so known before a model runs for them. This process tries once.
    """
    if found.tool is None or not found.ready:
        return found
    trial = _trial(found.tool, found.capability, str(device), found.groups)
    return dataclasses.replace(found, obstacle=trial.obstacle, unknown=trial.unknown)


@lru_cache(maxsize=16)
def _trial(tool: locate.Tool, capability: str, device: str, groups: tuple[tuple[str, ...], ...]) -> Trial:
    return probe(tool, capability, device, groups=groups)


def try_out(found: Prepared, device: torch.device) -> None:
    """Try whether counters come back here, for a run that demands them.

    Raises:
        DeviceError: none did.
    """
    obstacle = tried(found, device).obstacle
    if obstacle is not None:
        raise DeviceError(f"counters=ncu: {obstacle.reason}", obstacle.hint or "use counters=auto")


def waiting(prepared: Prepared | None) -> CounterFacts | None:
    """Return what a run says of its counters as long as they have not been read, None on a CPU."""
    if prepared is None:
        return None
    if prepared.obstacle is not None:
        version = prepared.tool.version_text if prepared.tool else ""
        return CounterFacts(available=False, reason=prepared.obstacle.reason, hint=prepared.obstacle.hint, version=version)
    return CounterFacts(available=False, reason=_UNFINISHED.reason, hint=_UNFINISHED.hint)


def _capability(device: torch.device) -> str:
    major, minor = torch.cuda.get_device_capability(device)
    return f"{major}.{minor}"


def count(prepared: Prepared, job: Job, advance: Callable[[], None]) -> Counted:
    """Count every group of ``prepared`` and write ``counters.csv`` into the directory of ``job``; calls ``advance`` after each.

    It never fails for a reason of ncu, of the model or of the disk: what came whole is kept and the rest is told. A failure
    that would meet the other groups too ends the pass, and so does the same failure twice.
    """
    if prepared.tool is None:
        raise AssertionError("nothing was prepared")
    requested = tuple(dict.fromkeys(name for group in prepared.groups for name in _asked(group)))
    pages: list[page.Page] = []
    warnings: list[str] = []
    failed = _count_groups(prepared, prepared.tool, job, warnings, pages, advance)
    failure = failed.obstacle if failed else None
    if pages:
        try:
            page.write_joined(pages, job.directory / COUNTERS_FILE)
        except OSError as error:
            failure, pages = Obstacle(f"{COUNTERS_FILE} could not be written: {error.strerror}", ROOM), []
            warnings.append(f"counters: {failure.reason}")
    there = frozenset(name for counted in pages for name in counted.counted())
    facts = CounterFacts(
        available=bool(pages),
        reason=failure.reason if failure else "",
        hint=failure.hint if failure else "",
        version=prepared.tool.version_text,
        passes=len(pages),
        cache_control=command.CACHE_CONTROL,
        requested=requested,
        missing=tuple(name for name in requested if name not in there),
    )
    launches = max((len(counted.rows) for counted in pages), default=0)
    blocked = not pages and failed is not None and not failed.of_model
    return Counted(facts, warnings + _incomplete(facts, pages), launches, blocked)


def _asked(group: tuple[str, ...]) -> tuple[str, ...]:
    """Return the metrics to ask for: those of the group, and what is told of a launch without counting.

    How many passes a kernel took is told unasked where it is told at all.
    """
    return (*group, *(name for name in counters.launch_metrics() if name != page.PASSES))


def _incomplete(facts: CounterFacts, pages: list[page.Page]) -> list[str]:
    """Return warnings of what did not come back of a pass that gave something."""
    found = []
    if pages and facts.missing:
        found.append(f"counters: Nsight Compute {facts.version} gave no {_listed(facts.missing)}")
    if len({len(counted.rows) for counted in pages}) > 1:
        kernels = ", ".join(str(len(counted.rows)) for counted in pages)
        found.append(f"counters: the groups saw different numbers of kernels ({kernels})")
    return found


def _count_groups(
    prepared: Prepared, tool: locate.Tool, job: Job, warnings: list[str], pages: list[page.Page], advance: Callable[[], None]
) -> FailedError | None:
    """Put the pages of the groups that worked into ``pages``; return what was in the way of the first that did not."""
    failure: FailedError | None = None
    ends, unknown, before = time.monotonic() + job.total_s, set(prepared.unknown), ""
    try:
        with tempfile.TemporaryDirectory(prefix=".counting-", dir=job.directory, ignore_cleanup_errors=True) as scratch:
            for number, group in enumerate(prepared.groups, 1):
                try:
                    counted = _group(tool, group, unknown, job, Path(scratch) / f"group-{number}", ends)
                except FailedError as error:
                    failure = failure or error
                    of = f"group {number} of {len(prepared.groups)}"
                    warnings.append(f"counters: {of} failed: {error.obstacle.reason}{error.said}")
                    if not error.others or error.obstacle.reason == before:
                        break
                    before = error.obstacle.reason
                    continue
                pages.append(counted)
                warnings += _repeated(counted, group, number)
                advance()
    except OSError as error:
        reason = f"files of the counter pass could not be written: {error.strerror or type(error).__name__}"
        warnings.append(f"counters: {reason}")
        return failure or FailedError(reason, ROOM)
    return failure


def _repeated(counted: page.Page, group: tuple[str, ...], number: int) -> list[str]:
    """Return a warning if kernels were repeated in a group whose figures depend on caches."""
    if not any(name.startswith(_CACHES) for name in group):
        return []
    most = max((passes for passes in counted.column(page.PASSES) if not math.isnan(passes)), default=1.0)
    if most <= 1:
        return []
    return [f"counters: group {number} took up to {most:.0f} passes a kernel: its caches were not as in the run"]


def _listed(names: tuple[str, ...], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _group(tool: locate.Tool, group: tuple[str, ...], unknown: set[str], job: Job, stem: Path, ends: float) -> page.Page:
    """Return the page of one group, without the names that ncu says it does not know; they are added to ``unknown``.

    Raises:
        FailedError: it cannot be had.
        OSError: our own files could not be written.
    """
    for _ in range(_ROUNDS):
        asked = tuple(name for name in _asked(group) if name not in unknown)
        if not set(asked) & set(_own(group)):
            break
        left_s = ends - time.monotonic()
        if left_s <= 0:
            raise FailedError(f"the passes of one model took more than {job.total_s:g} s", _TOO_LONG, of_model=True)
        try:
            return _once(tool, group, asked, dataclasses.replace(job, limit_s=min(job.limit_s, left_s)), stem)
        except FailedError as error:
            if not (left_out := refused(asked, error.unknown)):
                raise
            unknown |= left_out
    raise FailedError(f"ncu knows none of its counters: {_listed(_own(group))}", others=True)


def _own(group: tuple[str, ...]) -> tuple[str, ...]:
    """Return the metrics that no other group has."""
    return tuple(name for name in group if name not in counters.anchors())


def _once(tool: locate.Tool, group: tuple[str, ...], asked: tuple[str, ...], job: Job, stem: Path) -> page.Page:
    report, request, answer, log, csv = (
        stem.with_name(f"{stem.name}{ending}") for ending in (command.REPORT_SUFFIX, ".json", ".answer.json", ".log", ".csv")
    )
    request.write_text(
        json.dumps(
            {
                "choice": dataclasses.asdict(job.choice),
                "settings": job.settings,
                "path": str(answer.absolute()),
                "parent": os.getpid(),
                "born": processes.birth(os.getpid()),
            }
        )
    )
    kills = processes.memory_kills()
    line = command.count(tool, asked, report.absolute(), request.absolute())
    log.unlink(missing_ok=True)
    ended = supervise.run(line, log.absolute(), log.absolute(), job.limit_s)
    try:
        _check_count(ended, report, answer, supervise.said(log), processes.memory_kills() - kills, job.limit_s)
    except FailedError as error:
        error.said = end_of(supervise.said(log))
        raise
    line, complaints = command.print_page(tool, report.absolute()), log.with_suffix(".import")
    limit_s = min(job.limit_s, PRINT_LIMIT_S)
    ended = supervise.run(line, csv.absolute(), complaints.absolute(), limit_s)
    counted = _printed(ended, csv, supervise.said(complaints), limit_s)
    if not counted.counted() & set(_own(group)):
        raise FailedError(f"none of its counters came back: {_listed(_own(group))}", others=True)
    return counted


def _check_count(ended: supervise.Ended, report: Path, answer: Path, text: str, kills: int, limit_s: float) -> None:
    """Raise unless ncu wrote a report of a whole step."""
    _check_end(ended, limit_s)
    try:
        told = json.loads(answer.read_bytes())
    except (OSError, ValueError):
        told = None
    own = [line for line in errors(text) if FOLLOWS not in line]
    if told is not None and "error" not in told and report.is_file():
        # a program that crashes when it is torn down has been counted; a report that ncu could not finish is of no use
        if ended.status == 0 or (ended.status is not None and ended.status > 0 and not own):
            return
    elif told is not None and "error" in told and not own:
        what, hint = masked_text(told["error"]), masked_text(told["hint"])
        raise FailedError(f"the model failed under Nsight Compute: {what}", hint, of_model=True)
    if told is None and kills > 0:
        raise FailedError("the system ended the counted process for want of memory", MEMORY_HINT, of_model=True)
    raise explained(text, ended)


def _printed(ended: supervise.Ended, csv: Path, text: str, limit_s: float) -> page.Page:
    _check_end(ended, limit_s)
    if ended.status != 0:
        raise explained(f"{text}\n{supervise.said(csv)}", ended)
    try:
        return page.read_page(csv)
    except TraceError as error:
        hint = "run again; if it stays, use another release of Nsight Compute"
        raise FailedError(error.message, hint, others=True) from error


def _check_end(ended: supervise.Ended, limit_s: float) -> None:
    if ended.timed_out:
        raise FailedError(f"Nsight Compute took more than {limit_s:.3g} s and was ended", _TOO_LONG, of_model=True)
    if ended.error:
        raise FailedError(f"Nsight Compute could not be started: {ended.error}", "run ncu --version and see what it says")
