"""A trial on one small kernel: whether hardware counters come back here, with the same command as a real pass.

Every group that a run asks for is tried, so that a name which this ncu does not know, or a right that is missing, is known
before a model runs. It has not run on a GPU: what it does with ncu follows ``analyzer.capture.ncu``, what ncu says
``analyzer.capture.permission``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analyzer.capture.ncu import command, locate, page, supervise
from analyzer.capture.ncu.failure import FailedError, errors, explained, refused
from analyzer.capture.permission import Obstacle
from analyzer.errors import TraceError
from analyzer.hardware import counters

LIMIT_S = 120.0
"""Longest time for all groups together; each starts a process that imports torch."""

_ROUNDS = 5
"""How often a group is tried with fewer names, where ncu does not know some."""
_HUNG = "end what else uses ncu or nsys here; (it waits for them)"

_PROGRAM = """\
import sys
import torch
x = torch.ones(1 << 20, device=sys.argv[1])
if x.is_cuda:
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
x + x
if x.is_cuda:
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()
"""
"""One kernel between start and stop, which bound what is counted. On a CPU, for tests, there is nothing to bound."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came back: the metrics that were ``read``, and those that ncu says it does not know (``unknown``).

    ``obstacle``: why no counter of the hardware came back, or none that a run could rely on; None where some did.
    ``remark``: why a group did not come back, where others did.
    """

    read: frozenset[str] = frozenset()
    obstacle: Obstacle | None = None
    unknown: frozenset[str] = frozenset()
    remark: str = ""


def probe(
    tool: locate.Tool, capability: str, device: str, limit_s: float = LIMIT_S, groups: Sequence[tuple[str, ...]] = ()
) -> Trial:
    """Count one kernel on ``device`` with ``tool``, once for each of ``groups``; it changes nothing.

    Without ``groups`` those of the chip, for any element type. It never fails: a full disk, a crash or a hang is an obstacle
    like any other.
    """
    wanted = groups or counters.groups(capability)
    try:
        with tempfile.TemporaryDirectory(prefix="analyzer-doctor-", ignore_cleanup_errors=True) as scratch:
            return _all(tool, wanted, device, Path(scratch), time.monotonic() + limit_s)
    except OSError as error:
        return Trial(
            obstacle=Obstacle(f"ncu could not be tried: {error.strerror or error}", "set TMPDIR= to a directory with room")
        )


def _all(tool: locate.Tool, groups: Sequence[tuple[str, ...]], device: str, scratch: Path, ends: float) -> Trial:
    read: set[str] = set()
    unknown: set[str] = set()
    failure: Obstacle | None = None
    for number, group in enumerate(groups, 1):
        try:
            read |= _group(tool, group, unknown, device, scratch / f"group-{number}", ends)
        except FailedError as error:
            again = failure is not None and failure.reason == error.obstacle.reason
            failure = failure or error.obstacle
            if again or not error.others:
                break
    own = {name for group in groups for name in group} - set(counters.anchors())
    if failure is None or read & own:
        return Trial(frozenset(read), None, frozenset(unknown), failure.reason if failure else "")
    return Trial(frozenset(read), failure, frozenset(unknown))


def _group(
    tool: locate.Tool, group: tuple[str, ...], unknown: set[str], device: str, stem: Path, ends: float
) -> frozenset[str]:
    """Return the metrics of one group that came back; add to ``unknown`` those that ncu refuses by name.

    Raises:
        FailedError: none of its own came back.
    """
    asked: tuple[str, ...] = (*group, *(name for name in counters.launch_metrics() if name != page.PASSES))
    own = set(group) - set(counters.anchors())
    for _ in range(_ROUNDS):
        asked = tuple(name for name in asked if name not in unknown)
        if not own & set(asked):
            raise FailedError(f"ncu knows none of {', '.join(sorted(own))}", others=True)
        try:
            read = _once(tool, asked, device, stem, ends)
        except FailedError as error:
            if not (left_out := refused(asked, error.unknown)):
                raise
            unknown |= left_out
            continue
        if read & own:
            return read
        raise FailedError(f"ncu gave no {', '.join(sorted(own))}", others=True)
    raise FailedError("ncu does not know many of the counters that were asked for", others=True)


def _once(tool: locate.Tool, asked: tuple[str, ...], device: str, stem: Path, ends: float) -> frozenset[str]:
    report, log, csv = (stem.with_name(f"{stem.name}{ending}") for ending in (command.REPORT_SUFFIX, ".log", ".csv"))
    log.unlink(missing_ok=True)
    whole = command.count(tool, asked, report, stem)
    ended = _run([*whole[: whole.index("-m")], "-c", _PROGRAM, device], log, log, ends)
    if not report.is_file() or _refused(supervise.said(log)):
        raise _here(supervise.said(log), ended)
    ended = _run(command.print_page(tool, report), csv, log, ends)
    try:
        return page.read_page(csv).counted()
    except (TraceError, OSError):
        raise _here(supervise.said(log, csv), ended) from None


def _refused(said: str) -> bool:
    """Tell whether ncu gave up for a name; a report that lies there is then none of this try."""
    return any("Failed to find metric" in line for line in errors(said))


def _run(line: Sequence[str], out: Path, log: Path, ends: float) -> supervise.Ended:
    left = max(0.1, ends - time.monotonic())
    ended = supervise.run(line, out, log, left)
    if ended.timed_out:
        raise FailedError("ncu did not end within the time for a trial on one kernel", _HUNG)
    return ended


def _here(said: str, ended: supervise.Ended) -> FailedError:
    """Return what ncu's words mean. What it writes in a trial lies in the directory for temporary files, not in a run."""
    found = explained(said, ended)
    if "disk is full" in found.obstacle.reason:
        found.obstacle = Obstacle(found.obstacle.reason, "set TMPDIR= to a directory with room")
    return found
