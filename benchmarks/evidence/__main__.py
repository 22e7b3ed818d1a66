"""``python -m benchmarks.evidence minutes=9``: works through the plan of the device here, then packs what came of it.

Words, with their presets:
  minutes=9         how long this call may take, packing included; minutes=0 only packs
  out=evidence      the folder of state, runs, results and bundle; the same folder continues
  device=auto       auto, cuda or cpu: which plan
  only=             names of steps, parted by commas
  dry_run=false     true prints the plan with its estimates and needs, and what would be skipped here
Exit codes: 0 the plan is through or the time is up, 1 a step failed or something may not leave, 2 a word is not understood,
130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks.evidence.plan import NEEDS, PLANS, Step
from benchmarks.evidence.probe import Surroundings, ask, missing_line, missing_packages
from benchmarks.evidence.state import State, StateError, read_state, write_json
from benchmarks.evidence.words import WordError, read_flag, read_number, read_words

WORDS = {"minutes": "9", "out": "evidence", "device": "auto", "only": "", "dry_run": "false"}
DEVICES = ("auto", "cuda", "cpu")
EXIT_WORDS, EXIT_INTERRUPTED = 2, 130
_MINUTES = 9.0


def main(given: list[str], say: Callable[[str], object] = print) -> int:
    """Run the command line; return the exit code."""
    began = time.monotonic()
    if {"--help", "-h"} & set(given):
        say((__doc__ or "").strip())
        return 0
    try:
        return _told(read_words(given, WORDS), began, say)
    except (WordError, StateError) as error:
        say(f"error: {error}")
        return EXIT_WORDS if isinstance(error, WordError) else 1


def _told(values: dict[str, str], began: float, say: Callable[[str], object]) -> int:
    minutes, dry = read_number(values, "minutes"), read_flag(values, "dry_run")
    if values["device"] not in DEVICES:
        raise WordError(f"device={values['device']} is none of {', '.join(DEVICES)}")
    missing = missing_packages()
    if missing:
        say(missing_line(missing))
        return 1
    here = ask(values["device"])
    plan = PLANS[here.type]
    chosen = _chosen(values["only"], plan)
    if dry:
        print_plan(plan, here, chosen, say)
        return 0
    if here.why_not:
        say(f"error: {here.why_not}")
        return 1
    return _work(plan, here, chosen, Path(values["out"]).absolute(), 60 * minutes, began, say)


def _chosen(text: str, plan: tuple[Step, ...]) -> frozenset[str]:
    chosen = frozenset(filter(None, text.split(",")))
    unknown = chosen - {step.name for step in plan}
    if unknown:
        raise WordError(f"only={','.join(sorted(unknown))} is no step; dry_run=true lists them")
    return chosen


def print_plan(plan: tuple[Step, ...], here: Surroundings, chosen: frozenset[str], say: Callable[[str], object]) -> None:
    """Print the plan: what each step gives, its estimate, what it needs, and what would be skipped here and why."""
    from benchmarks.evidence.runner import clock, unmet

    steps = [step for step in plan if not chosen or step.name in chosen]
    say(f"plan for {here.type} ({here.name or 'no such device here'}), the most valuable first; nothing is run")
    total = runs = 0.0
    for number, step in enumerate(steps, 1):
        needs = [NEEDS[need] for need in step.needs] + ([f"{step.memory_gb:g} GB of memory"] if step.memory_gb else [])
        why = unmet(step, here, {})
        total += step.estimate_s
        runs += 0.0 if why else step.estimate_s
        say(f"{number:3}  {step.estimate_s:4.0f} s  {step.name}")
        say(f"             gives {step.gives} ({step.output})")
        if needs or step.after:
            say(f"             needs {'; '.join([*needs, *(f'the step {name}' for name in step.after)])}")
        if why and not here.why_not:
            say(f"             would be skipped here: {why}")
    if here.why_not:
        say(f"All of it would be skipped here: {here.why_not}")
    guessed = (
        "the estimates are guesses, none of them was timed on a GPU" if here.type == "cuda" else "seen on two shared cores"
    )
    say(f"{len(steps)} steps, about {clock(total)} minutes ({guessed}); here {clock(runs)} minutes would run")
    say(f"in calls of {_MINUTES:g} minutes: about {max(1, -(-total // (60 * _MINUTES - 23))):.0f} for the whole plan")


def _work(
    plan: tuple[Step, ...],
    here: Surroundings,
    chosen: frozenset[str],
    folder: Path,
    total_s: float,
    began: float,
    say: Callable[[str], object],
) -> int:
    from benchmarks.evidence.runner import Limits, Work, goes_on, has_failed, summary

    state = read_state(folder) or State(here.type, here.name)
    if (state.plan, state.device) != (here.type, here.name):
        raise StateError(f"{folder.name} holds evidence of {state.device} ({state.plan}); name another folder with out=")
    folder.mkdir(parents=True, exist_ok=True)
    write_json({"format_version": 1, **asdict(here)}, folder / "environment.json")
    say(f"{here.name}: {len(plan)} steps, {total_s / 60:g} minutes; results go to {folder.name}/")
    limits = Limits(total_s, min(15.0, 0.05 * total_s), min(8.0, 0.05 * total_s))
    work = Work(plan, state, here, folder, limits, say, began, chosen)
    interrupted = False
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        work.work()
    except KeyboardInterrupt:
        interrupted = True
        say("interrupted; what is done is packed")
    finally:
        signal.signal(signal.SIGTERM, before)
    complete = _pack(plan, state, here, folder, say)
    for line in summary(work):
        say(line)
    more = goes_on(work)
    if more:
        say(f"Next: the same command again goes on with {more[0]}" + (f" and {len(more) - 1} more" if len(more) > 1 else ""))
    if interrupted:
        return EXIT_INTERRUPTED
    return 1 if has_failed(work) or not complete else 0


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _pack(plan: tuple[Step, ...], state: State, here: Surroundings, folder: Path, say: Callable[[str], object]) -> bool:
    """Pack what is done; return whether all of it went in."""
    from benchmarks.evidence.bundle import pack
    from benchmarks.evidence.identity import names_here
    from benchmarks.evidence.runner import ROOT
    from benchmarks.machine import describe_checkout

    outputs = [(step, step.output.split("/")[1]) for step in plan if step.output.startswith("runs/")]
    runs = list(
        dict.fromkeys(name for step, name in outputs if state.status(name) == "done" or state.status(step.name) == "done")
    )
    about = {
        "plan": here.type, "device": here.name, "versions": dict(here.versions), "commit": describe_checkout(ROOT),
        "calls": state.calls,
    }  # fmt: skip
    names = names_here(places=(str(ROOT), str(folder))).without(_public(plan, here))
    packed = pack(folder, runs, names, about)
    for path in packed.archives:
        say(f"Bundle: {folder.name}/bundle/{path.name} ({path.stat().st_size / 1e6:.1f} MB)")
    for left in packed.left:
        say(f"Left out: {left.name}: {left.why} ({left.bytes / 1e6:.1f} MB)")
    return not packed.left


def _public(plan: tuple[Step, ...], here: Surroundings) -> bytes:
    """Return the words that stand in every file by design: of the plan, and what the product that is measured is called."""
    words = [word.replace("{device}", here.type) for step in plan for word in step.command]
    return "\n".join([*words, here.name]).encode()


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the lines has had enough of them
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)
