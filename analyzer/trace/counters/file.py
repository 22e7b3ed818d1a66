"""A file of hardware counters as a table: a row per counted launch, a column per metric, in base units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analyzer.errors import TraceError
from analyzer.format import counted
from analyzer.schema.run import Run
from analyzer.trace.counters.lines import EXPORT_HINT, read_lines
from analyzer.trace.counters.numbers import CommaError, Digits, NotationError
from analyzer.trace.counters.page import Page, TooLargeError, read_page
from analyzer.trace.counters.ranges import read_ranges

if TYPE_CHECKING:
    from analyzer.trace.kineto import Trace

ROW_COLUMNS = ("id", "process", "device", "kernel", "grid", "block", "op")
TOOL = "Nsight Compute"
_PROCESSES = "Launches of {} processes were counted. Those of each are matched on their own."
_LOCALE_HINT = "export it again in plain notation: LC_ALL=C ncu --import FILE.ncu-rep --csv --page raw"
_PERMISSION_HINT = "`analyzer task=doctor` says how the driver lets this user read counters"


@dataclass(frozen=True, slots=True, eq=False)
class CounterFile:
    """Counted launches.

    ``rows`` has ROW_COLUMNS and a float64 column per metric of ``metrics``, in base units, NaN where absent; it is sorted by
    ``process`` and ``device`` (texts) as they appear, and there by ``id``. ``kind`` and ``tool`` as in ``CounterView``;
    ``name`` as a report may show it. ``grid`` and ``block`` are ``x,y,z``, a single number where only the total is told, empty
    where nothing is. ``capability``: as the file has it, empty without. ``notes``: what is odd about the file. ``refused``: why
    a file that merely lies beside the trace could not be read; it has no rows then.
    """

    name: str
    kind: str
    rows: pd.DataFrame
    metrics: tuple[str, ...]
    tool: str = ""
    mode: str = ""
    capability: str = ""
    notes: tuple[str, ...] = ()
    refused: str = ""


def read_counter_file(path: Path) -> CounterFile:
    """Return the counters that ``ncu --csv`` wrote to ``path``: the raw page, or the one of details.

    Raises:
        TraceError: not there, or no such file.
    """
    try:
        page = _read(path)
    except NotationError as error:
        raise TraceError(f"{path} has numbers that can be read in two ways, or in both", _LOCALE_HINT) from error
    except TooLargeError as error:
        raise TraceError(f"{path} holds more launches and metrics than can be read", "count fewer of them") from error
    if not page.ids or not page.values:
        raise _nothing(path, page)
    rows, notes = _table(page)
    metrics = tuple(column for column in rows.columns if column not in ROW_COLUMNS)
    return CounterFile(
        name=path.name,
        kind="import",
        rows=rows,
        metrics=metrics,
        tool=f"{TOOL} {page.version}".strip(),
        mode=page.mode,
        capability=page.capabilities.most_common(1)[0][0] if page.capabilities else "",
        notes=(*notes, *_remarks(page)),
    )


def _read(path: Path) -> Page:
    try:
        return read_page(read_lines(path), Digits())
    except CommaError:
        return read_page(read_lines(path), Digits(comma=True))


def _nothing(path: Path, page: Page) -> TraceError:
    """Return why a file has no counters."""
    for said in page.errors:
        hint = _PERMISSION_HINT if "ERR_NVGPUCTRPERM" in said else EXPORT_HINT
        return TraceError(f"{path} holds no counters: ncu said {said}", hint)
    if page.metricless:
        return TraceError(f"{path} names kernels, but no metric of Nsight Compute", EXPORT_HINT)
    first = next(iter(read_lines(path)), "").lstrip()
    if first.startswith(("{", "[", "<")):
        what = "HTML or XML" if first.startswith("<") else "JSON"
        return TraceError(
            f"{path} is {what}, not a table of counters", f"a trace is given with runs=; for counters {EXPORT_HINT}"
        )
    if first.startswith("run,kernel,kind"):
        return TraceError(f"{path} is a kernels.csv of a report, not a table of counters", EXPORT_HINT)
    if "Time (%)" in first or "Total Time" in first:
        return TraceError(f"{path} is a summary of Nsight Systems, which counts nothing per kernel", EXPORT_HINT)
    return TraceError(f"{path} holds no counted launch", EXPORT_HINT)


def _table(page: Page) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows in order, and what was odd about them."""
    values = {name: np.asarray(column, np.float64) for name, column in page.values.items()}
    frame = pd.DataFrame(
        {
            "id": np.asarray(page.ids, np.int64),
            **{role: np.asarray(getattr(page, role), object) for role in ("process", "device", "kernel", "grid", "block")},
            "op": np.full(len(page.ids), "", object),
            **values,
        }
    )
    for role in ("grid", "block"):
        frame[role] = _dimensions(frame, role)
    frame, notes = _separate(frame.assign(_part=page.part))
    order = [pd.factorize(frame[role])[0] for role in ("process", "device")]
    frame = frame.iloc[np.lexsort((frame["id"], order[1], order[0]))].reset_index(drop=True)
    if frame["process"].nunique() > 1:
        notes.append(_PROCESSES.format(frame["process"].nunique()))
    return frame, notes


def _separate(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the launches without those that stand twice; what has the number of another is of another pass over the program.

    Tables that were written one behind the other begin to count anew, and so do processes.
    """
    notes = []
    same = frame.drop(columns="_part").duplicated()
    if same.any():
        what = counted(int(same.sum()), "launch stands", "launches stand")
        notes.append(f"{what} twice in the file: the second line is left out.")
        frame = frame[~same]
    again = frame.groupby(["process", "device", "id"], sort=False).cumcount()
    if again.any():
        pair = frame["process"] + "\0" + frame["device"]
        parted = pair.isin(pair[again > 0])
        whole = frame.groupby(["process", "device", "id", "_part"], sort=False).ngroups == len(frame)
        turn = (frame["_part"] if whole else again).where(parted, 0)
        named = frame["process"] + " (" + (turn + 1).astype(str) + ")"
        frame = frame.assign(process=named.where(turn > 0, frame["process"]))
        notes.append("Numbers of launches stand more than once. Each run through them is matched on its own.")
    return frame.drop(columns="_part"), notes


def _dimensions(frame: pd.DataFrame, role: str) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    """Return grid or block of each launch: from its three launch metrics, else its column, else the total."""
    texts = frame[role].to_numpy(object)
    axes = [f"launch__{role}_dim_{axis}" for axis in "xyz"]
    if set(axes) <= set(frame.columns):
        known = frame[axes].notna().all(axis=1).to_numpy()
        texts = texts.copy()
        told = frame.loc[known, axes].astype("int64").to_numpy().tolist()
        texts[known] = np.array([*(",".join(map(str, axis)) for axis in told), ""], object)[:-1]
    total = f"launch__{role}_size"
    if total in frame.columns:
        lacking = (texts == "") & frame[total].notna().to_numpy()
        texts = texts.copy()
        texts[lacking] = frame.loc[lacking, total].astype("int64").astype(str).to_numpy(object)
    return texts


def _remarks(page: Page) -> list[str]:
    """Return what else a reader of the file should know."""
    notes = []
    if len(page.capabilities) > 1:
        notes.append(f"The file holds devices of compute capability {', '.join(sorted(page.capabilities))}.")
    if page.damaged:
        what = counted(page.damaged, "line is cut off or damaged and was", "lines are cut off or damaged and were")
        notes.append(f"{what} left out.")
    if page.without_units:
        notes.append("The file names no units. Values are taken as bytes, ns, Hz and single events.")
    if page.without_ids:
        notes.append("The launches have no numbers. They are taken in the order of the file.")
    if page.units:
        name, unit = next(iter(page.units.items()))
        notes.append(f"A unit is not known, so values were left out: {unit} of {name}.")
    if page.digits.comma:
        notes.append("Numbers in the file have a decimal comma.")
    return notes


def counter_file(run: Run, trace: Trace, given: Path | None = None) -> CounterFile | None:
    """Return the counters of a run: those ``given``, those that lie with it, or the counter ranges of an old trace; else None.

    Raises:
        TraceError: the file that was given cannot be read. One that merely lies beside the trace comes back ``refused``.
    """
    if given is not None:
        return read_counter_file(given)
    if run.counters is None:
        return _of_ranges(trace)
    try:
        file = read_counter_file(run.counters)
    except TraceError as error:
        why = error.message.replace(str(run.counters), run.counters.name)
        empty = pd.DataFrame({column: pd.Series(dtype=object) for column in ROW_COLUMNS})
        return CounterFile(run.counters.name, "import", empty, (), refused=f"{why}; {error.hint}" if error.hint else why)
    facts = run.facts.counters if run.facts else None
    if facts is None or not facts.available:
        return file
    mode = {"none": "warm", "all": "cold"}.get(facts.cache_control, "")
    version = facts.version.removeprefix(TOOL).strip()
    passes = _PROCESSES.format(file.rows["process"].nunique())  # ours are the passes of one run, and no news
    notes = tuple(note for note in file.notes if note != passes)
    return replace(file, kind="ncu", tool=f"{TOOL} {version}".strip(), mode=mode or file.mode, notes=notes)


def _of_ranges(trace: Trace) -> CounterFile | None:
    found = read_ranges(trace)
    if found is None:
        return None
    metrics = tuple(column for column in found.columns if column not in ROW_COLUMNS)
    return CounterFile("counter ranges of the trace", "ranges", found, metrics, tool="CUPTI")
