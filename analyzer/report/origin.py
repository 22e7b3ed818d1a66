"""Where a report and its traces lie and which command asked for it, as far as a page may show it."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from analyzer.report.text import clean
from analyzer.schema.run import Run
from analyzer.schema.settings import COUNTERS

COMMAND_LIMIT = 2000
SELECTING = ("steps", "annotation", "rank", "max_expansion", "gpu_spec", "counters")
"""Settings that change what a report of the same runs shows."""

_HOMES = frozenset(("home", "users", "root"))
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")


@dataclass(frozen=True, slots=True)
class Origin:
    """The directory that a page is written to (its final place or one beside it) and the command that asked for it.

    Both may be unknown; then the page has no links to traces and names the runs alone.
    """

    directory: Path | None = None
    command: tuple[str, ...] = ()


def trace_href(run: Run, origin: Origin) -> str:
    """Return a relative link from the report to the trace of ``run``; empty where a path may not be shown.

    It may where both lie below the working directory, so that no name of a folder above it shows, where no home is among the
    folders between, and where the name of the file holds no host.
    """
    trace = run.trace.resolve()
    if origin.directory is None or run.trace_name != run.trace.name or run.trace.name != trace.name:
        return ""
    directory = origin.directory.resolve()
    if _below(trace) is None or _below(directory) is None:
        return ""
    return quote(Path(os.path.relpath(trace, directory)).as_posix(), safe="/")


def shown_path(run: Run) -> str:
    """Return what ``runs=`` takes for this run: its path below the working directory, else its name alone.

    The name alone also where the path would show a home.
    """
    path = run.trace.resolve().parent if run.facts is not None else run.trace.resolve()
    name = path.name if run.facts is not None else run.trace_name
    below = _below(path)
    return (below.parent / name).as_posix() if below is not None and below.parts else name


def _below(path: Path) -> Path | None:
    """Return ``path`` relative to the working directory; None outside of it, and where that would show a home.

    A working directory above the home of the user, ``/`` for one, has all of the machine below it.
    """
    here = Path.cwd().resolve()
    try:
        home = Path.home().resolve()
    except RuntimeError:  # an account without one
        home = here
    if here == Path(here.anchor) or here in home.parents or not path.is_relative_to(here):
        return None
    found = path.relative_to(here)
    return None if _HOMES & {part.lower() for part in found.parts} else found


def report_command(runs: tuple[Run, ...], origin: Origin) -> str:
    """Return the command line that writes a report of ``runs`` again, quoted for a shell."""
    names = [clean(shown_path(run), 300) for run in runs]
    named = [name if _PLAIN.fullmatch(name) else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names]
    value = named[0] if len(named) == 1 else f"[{','.join(named)}]"
    given = [text.lstrip("+").split("=", 1) for text in origin.command[1:]]
    chosen = ["=".join(words) for words in given if words[0] in SELECTING and words[-1] not in COUNTERS]
    return command_line(("analyzer", "task=report", f"runs={value}", *chosen))


def command_line(words: tuple[str, ...]) -> str:
    """Return a command as one line that a shell reads as ``words``; without control characters, home paths and cut if long."""
    return clean(shlex.join(clean(word, COMMAND_LIMIT) for word in words), COMMAND_LIMIT)
