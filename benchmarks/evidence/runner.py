"""Works through a plan: what fits into the time that is left, each step once, the rest when it is called again."""

from __future__ import annotations

import datetime
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from analyzer.capture import processes
from analyzer.capture.privacy import masked_text
from benchmarks.evidence import supervise
from benchmarks.evidence.plan import Step
from benchmarks.evidence.probe import Surroundings
from benchmarks.evidence.record import EXIT_BLOCKED, EXIT_UNAVAILABLE
from benchmarks.evidence.state import MAX_TRIES, Outcome, State, write_state

ROOT = Path(__file__).resolve().parents[2]
_REASON = 300
FIRST_TRY = 5.0
FIRST_TRY_LEAST_S = 180.0
"""A first try may take so many times its estimate, and this long at least: one that hangs must not cost the whole call."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``total_s`` for the call, of which ``bundle_s`` are kept for packing and ``grace_s`` for ending a step at its limit."""

    total_s: float
    bundle_s: float = 15.0
    grace_s: float = 8.0


@dataclass(slots=True)
class Work:
    """One call: the plan and what it may use. ``say`` takes a line; ``began`` is when the call began, monotonic."""

    plan: Sequence[Step]
    state: State
    here: Surroundings
    folder: Path
    limits: Limits
    say: Callable[[str], object] = print
    began: float = field(default_factory=time.monotonic)
    chosen: frozenset[str] = frozenset()
    blocked: dict[str, str] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    stuck: str = ""

    def left_s(self) -> float:
        """Return the seconds that steps may still take."""
        return self.limits.total_s - self.limits.bundle_s - self.limits.grace_s - (time.monotonic() - self.began)

    def work(self) -> None:
        """Take every step that can be taken and fits; the state is written before and after each.

        Raises:
            KeyboardInterrupt: the call was interrupted; the step that ran is marked so.
        """
        self.state.calls += 1
        self._settle_earlier()
        for number, step in enumerate(self.plan, 1):
            if self.chosen and step.name not in self.chosen:
                continue
            status, why = self.obstacle(step)
            if status == "skipped":
                before = self.state.steps.get(step.name, Outcome(""))
                self.state.steps[step.name] = Outcome("skipped", why, before.tries)
                write_state(self.state, self.folder)
            if status:
                self.say(f"[{number:2}/{len(self.plan)}] {step.name}: {status}{f', {why}' if why else ''}")
                continue
            self._take(step, number)
            if self.stuck:
                self.say(f"{self.stuck} cannot be ended and may still hold the device: nothing more is measured beside it")
                break

    def obstacle(self, step: Step) -> tuple[str, str]:
        """Return why ``step`` is not taken now, as status and reason; two empty texts where it is."""
        known = self.state.steps.get(step.name)
        if known is not None and known.status == "done" and not self._is_missed(step):
            return "done", "before"
        if known is not None and known.is_left:
            return known.status, f"left after {known.tries} tries: {known.reason}"
        why = unmet(step, self.here, self.blocked)
        if why:
            return "skipped", why
        waiting = [name for name in step.after if self.state.status(name) != "done"]
        if waiting:
            return "not begun", f"it needs {', '.join(waiting)}"
        if step.estimate_s > self.left_s():
            return "not begun", f"about {step.estimate_s:.0f} s, and {max(0.0, self.left_s()):.0f} s are left"
        return "", ""

    def _is_missed(self, step: Step) -> bool:
        """Tell whether a step yet to come takes what ``step`` wrote, and that is not here: an earlier call was elsewhere."""
        if (self.folder / step.output).exists():
            return False
        takers = (each for each in self.plan if step.name in each.after and not unmet(each, self.here, self.blocked))
        outcomes = [self.state.steps.get(each.name, Outcome("")) for each in takers]
        return any(outcome.status != "done" and not outcome.is_left for outcome in outcomes)

    def _settle_earlier(self) -> None:
        """Mark the step that ran when an earlier call was killed, and end what it left."""
        for outcome in self.state.steps.values():
            if outcome.status != "running":
                continue
            if outcome.pid and processes.lives(outcome.pid, outcome.born):
                supervise.kill_group(outcome.pid)
            outcome.status, outcome.reason, outcome.pid = "interrupted", "the call that ran it was killed", 0
        shutil.rmtree(self.folder / "making", ignore_errors=True)
        write_state(self.state, self.folder)

    def _take(self, step: Step, number: int) -> None:
        left = self.left_s()
        self.say(f"[{number:2}/{len(self.plan)}] {step.name}: about {step.estimate_s:.0f} s, {clock(left)} left")
        before = self.state.steps.get(step.name, Outcome(""))
        limit = left if before.tries else min(left, max(FIRST_TRY * step.estimate_s, FIRST_TRY_LEAST_S))
        outcome = Outcome("running", tries=before.tries + 1, began_utc=_now())
        self.state.steps[step.name] = outcome
        write_state(self.state, self.folder)
        began = time.monotonic()

        def started(pid: int) -> None:
            outcome.pid, outcome.born = pid, processes.birth(pid)
            write_state(self.state, self.folder)

        log = self.folder / "logs" / f"{step.name}.log"
        log.unlink(missing_ok=True)
        try:
            ended = supervise.run(
                self._command(step), log, limit, self.limits.grace_s, environment_of(self.folder, os.environ), started
            )
        except KeyboardInterrupt:
            outcome.status, outcome.reason = "interrupted", "the call was interrupted"
            outcome.tries -= 1  # through no fault of the step
            raise
        else:
            self._judge(step, outcome, ended, limit)
        finally:
            outcome.pid, outcome.seconds = 0, round(time.monotonic() - began, 1)
            write_state(self.state, self.folder)
        self.ran.append(step.name)
        self.say(f"        {outcome.status} after {outcome.seconds:.0f} s{f': {outcome.reason}' if outcome.reason else ''}")

    def _judge(self, step: Step, outcome: Outcome, ended: supervise.Ended, limit_s: float) -> None:
        said = masked_text(ended.last_line)[:_REASON]
        self.stuck = step.name if ended.stuck else ""
        if ended.timed_out:
            outcome.status, outcome.reason = "interrupted", f"not through after {ended.seconds:.0f} s, when its time was up"
            if self.ran and limit_s < 2 * step.estimate_s:
                outcome.tries -= 1  # another call that begins with it gives it more
        elif ended.status == 0:
            outcome.status, outcome.reason = "done", ""
        elif ended.status in (EXIT_UNAVAILABLE, EXIT_BLOCKED):
            outcome.status, outcome.reason = "skipped", said
            outcome.tries -= 1
            if ended.status == EXIT_BLOCKED:
                self.blocked.update(dict.fromkeys(step.needs, said))
        else:
            outcome.status, outcome.reason = "failed", said or f"it ended with status {ended.status}"

    def _command(self, step: Step) -> list[str]:
        places = {"{out}": str(self.folder), "{device}": self.here.type}
        words = list(step.command)
        for sign, text in places.items():
            words = [word.replace(sign, text) for word in words]
        return [sys.executable, *words]


def unmet(step: Step, here: Surroundings, blocked: Mapping[str, str]) -> str:
    """Return why ``step`` cannot be taken on what is ``here``; empty where it can."""
    if here.why_not:
        return here.why_not
    for need in step.needs:
        why = blocked.get(need) or here.lacks.get(need)
        if why:
            return why
    there = here.memory_bytes / 1e9
    if step.memory_gb > there:
        return f"it takes about {step.memory_gb:g} GB of memory, {there:.1f} GB are free"
    return ""


def environment_of(folder: Path, outer: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a step: this checkout first, and the ceilings kept in ``folder``, not in anybody's home."""
    path = os.pathsep.join(filter(None, (str(ROOT), outer.get("PYTHONPATH", ""))))
    return {**outer, "PYTHONPATH": path, "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONUNBUFFERED": "1"}


def summary(work: Work) -> list[str]:
    """Return the last lines: how many steps are where, which failed, and what to do next."""
    steps = [step for step in work.plan if not work.chosen or step.name in work.chosen]
    found = [work.state.status(step.name) or "not begun" for step in steps]
    counts = ", ".join(f"{found.count(each)} {each}" for each in dict.fromkeys(found))
    spent = time.monotonic() - work.began
    lines = [f"{len(steps)} steps: {counts}; {clock(spent)} of {clock(work.limits.total_s)}"]
    for step in steps:
        outcome = work.state.steps.get(step.name)
        if outcome is not None and outcome.status in ("failed", "interrupted"):
            more = "left" if outcome.tries >= MAX_TRIES else "tried again by the next call"
            lines.append(f"  {step.name}: {outcome.status} ({more}): {outcome.reason}")
    return lines


def goes_on(work: Work) -> list[str]:
    """Return the names of the steps that another call would take."""
    names = []
    for step in work.plan:
        outcome = work.state.steps.get(step.name)
        settled = outcome is not None and (outcome.status in ("done", "skipped") or outcome.is_left)
        if not settled and (not work.chosen or step.name in work.chosen) and not unmet(step, work.here, work.blocked):
            names.append(step.name)
    return names


def has_failed(work: Work) -> bool:
    """Tell whether a step of this plan failed, now or before, and did not come right since."""
    return any(outcome.status == "failed" for outcome in work.state.steps.values())


def clock(seconds: float) -> str:
    """Return seconds as minutes and seconds."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
