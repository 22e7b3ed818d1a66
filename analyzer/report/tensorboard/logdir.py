"""The log directory: a directory per run, with its event file and the copies of its traces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from analyzer.analysis import analyze
from analyzer.errors import TraceError
from analyzer.format import size
from analyzer.insight.verdict import say_one
from analyzer.report.tensorboard.event_file import EVENTS_PREFIX, EVENTS_SUFFIX, Scalar, write_columns, write_events
from analyzer.report.tensorboard.figures import MAIN, figures
from analyzer.report.tensorboard.plugin import PluginView, memory_here, memory_needed, read_as_plugin
from analyzer.report.tensorboard.series import recorded_s, series
from analyzer.report.tensorboard.texts import described, described_as, texts
from analyzer.report.tensorboard.trace_copy import copy_trace
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis
from analyzer.schema.settings import Selection
from analyzer.trace.kineto import Trace, read_trace
from analyzer.trace.ranks import OtherRankError, select_rank
from analyzer.trace.rundir import safe_name

_LIST = "runs.json"
_TRACE = ".pt.trace.json.gz"
_UNGRAPHED = "without-graphs"


@dataclass(frozen=True, slots=True)
class Profile:
    """One trace in the profiler plugin, there a worker of its run; ``reason`` says why it is left out (``view`` None then).

    ``memory_bytes``: about what the plugin's process will take to read it.
    """

    worker: str
    view: PluginView | None
    reason: str = ""
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LogRun:
    """One run in TensorBoard: its ``name`` there, the ``tags`` of its scalars, its settings and its traces."""

    name: str
    tags: tuple[str, ...]
    settings: dict[str, str | float]
    profiles: tuple[Profile, ...]


def write_logdir(
    sources: list[Path],
    logdir: Path,
    done: Callable[[], None],
    selection: Selection = Selection(),  # noqa: B008 - frozen
) -> list[LogRun]:
    """Write the runs and traces ``sources`` into ``logdir`` and return what TensorBoard will show of each.

    ``selection`` is the part that the figures cover; the plugin gets all steps of the trace. Traces of other ranks than the
    selected one are left out, as in a report. A trace that the plugin cannot read is left out, and its run keeps its figures.

    Raises:
        TraceError: a source is no trace, or none is of the selected rank.
    """
    found: list[LogRun] = []
    other: OtherRankError | None = None
    for source in sources:
        try:
            found.append(_write_run(source, logdir, {run.name for run in found}, selection))
        except OtherRankError as error:
            other = error
        done()
    if other is not None and not found:
        raise other
    had = {tag for run in found for tag in run.tags}
    write_columns(logdir, [run.settings for run in found], [tag for tag in MAIN if tag in had])
    names = msgspec.json.format(msgspec.json.encode([run.name for run in found]))
    (logdir / _LIST).write_bytes(names)
    return found


def is_logdir(directory: Path) -> bool:
    """Tell whether ``directory`` holds nothing but what ``write_logdir`` wrote, so that it may be replaced."""
    return (directory / _LIST).is_file() and all(_is_ours(directory, path) for path in directory.rglob("*"))


def _is_ours(directory: Path, path: Path) -> bool:
    if path.is_symlink():
        return False
    events = path.name.startswith(EVENTS_PREFIX) and path.name.endswith(EVENTS_SUFFIX)
    if path.is_dir() or path.parent == directory:
        return path.is_dir() or events or path.name == _LIST
    return events or path.name.endswith(_TRACE)


def _write_run(source: Path, logdir: Path, taken: set[str], selection: Selection) -> LogRun:
    analysis = analyze(source, selection)
    run = analysis.run
    name = _free_name(run.name, taken)
    directory = logdir / name
    directory.mkdir(parents=True)
    settings = _settings(analysis)
    tags = _write_figures(analysis, directory, settings)
    trace = select_rank(read_trace(run.trace, max_expansion=selection.max_expansion), selection.rank)
    profiles = [_write_profile(trace, name, directory, selection.max_expansion)]
    if run.ungraphed is not None:
        profiles.append(_write_ungraphed(run.ungraphed, f"{name}-{_UNGRAPHED}", directory, selection.max_expansion))
    return LogRun(name, tags, settings, tuple(profiles))


def _free_name(given: str, taken: set[str]) -> str:
    """Return the name of a run with a number behind it where another one has it; without dots, which the plugin cuts at."""
    base = safe_name(given).replace(".", "-")[:120]
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    return name


def _write_ungraphed(path: Path, worker: str, directory: Path, max_expansion: float) -> Profile:
    try:
        return _write_profile(read_trace(path, max_expansion=max_expansion), worker, directory, max_expansion)
    except TraceError as error:
        return Profile(worker, None, error.message)


def _write_profile(trace: Trace, worker: str, directory: Path, max_expansion: float) -> Profile:
    """Write the copy of a trace; one that the plugin cannot read is tried without its Python functions, then left out."""
    target = directory / f"{worker}{_TRACE}"
    reason = ""
    for stacks in (True, False):
        length = copy_trace(trace, target, stacks=stacks, max_expansion=max_expansion)
        needed = memory_needed(length)
        if needed > memory_here() / 2 > 0:
            target.unlink()
            why = f"too large: the plugin would take about {size(needed)} of memory, more than half of what this machine has"
            return Profile(worker, None, why, needed)
        view = read_as_plugin(target)
        if isinstance(view, PluginView):
            return Profile(worker, view, "" if stacks else "without Python functions, which the plugin cannot read", needed)
        reason = view
    target.unlink()
    return Profile(worker, None, f"the plugin cannot read it ({clean(reason, 200)})")


def _write_figures(a: Analysis, directory: Path, settings: dict[str, str | float]) -> tuple[str, ...]:
    """Write the event file of a run and return the tags of its scalars."""
    moment, shown = recorded_s(a), figures(a)
    single = [
        Scalar(found.tag, described(found), ((0, moment, found.figure.value),))
        for found in shown
        if found.figure.value is not None
    ]
    curves = [Scalar(s.tag, described_as(s.meaning, s.unit, Evidence.MEASURED), s.points) for s in series(a)]
    write_events(directory, moment, [*single, *curves], texts(a, say_one((a,)), shown), settings)
    return tuple(scalar.tag for scalar in (*single, *curves))


def _settings(a: Analysis) -> dict[str, str | float]:
    """Return what distinguishes runs from one another, for the table of TensorBoard's HParams."""
    facts = a.run.facts
    known: dict[str, str | float | None] = {"device": clean(a.device.name, 80), "dtype": clean(a.dtype, 40)}
    if facts is not None:
        settings = facts.settings
        known |= {
            "model": clean(facts.model.name, 80),
            "batch_size": float(settings.batch_size),
            "image_size": None if settings.image_size is None else float(settings.image_size),
            "layout": settings.memory_format,
            "compile": settings.compile,
            "attention": facts.model.attention_backend,
            "autocast": str(settings.autocast).lower(),
        }
    return {key: value for key, value in known.items() if value is not None}
