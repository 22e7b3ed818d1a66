"""Run directories: their names, how they are written whole or not at all, and how they are read.

Pandas is imported where a table is read: before that, a report makes its directory and another process begins to read.
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from analyzer.errors import ConfigError, TraceError
from analyzer.schema.run import RUN_FORMAT_VERSION, Run, RunFacts, shown_name

if TYPE_CHECKING:
    import pandas as pd

    from analyzer.schema.tables import Table

RUN_FILE = "run.json"
TRACE_FILE = "trace.pt.trace.json.gz"
OPS_FILE = "ops.json.gz"
TIMINGS_FILE = "timings.csv"
SAMPLES_FILE = "samples.csv"
COUNTERS_FILE = "counters.csv"
COMPILED_FILE = "compiled.json.gz"
UNGRAPHED_FILE = "ungraphed.pt.trace.json.gz"
_MAX_RUN_JSON_BYTES = 4 << 20
_MAX_FIGURE = 1e18
_mark = secrets.token_hex(8)


def safe_name(text: str) -> str:
    """Return ``text`` with only ``[a-z0-9._-]``, so that it needs no quoting in an override or a shell."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-.") or "run"


@dataclass
class NewDirectory:
    """A directory in the making: write to ``path``; ``final`` is where it lies once it is whole."""

    path: Path
    final: Path | None = None


@contextmanager
def new_directory(root: Path, name: str) -> Iterator[NewDirectory]:
    """Yield a temporary directory that becomes ``root/name`` when the block ends without an error.

    A name that is taken gets a number behind it. On an error or Ctrl-C the directory is removed, whatever it holds.

    Raises:
        ConfigError: ``root`` is a file or cannot be written.
    """
    base = safe_name(name)
    new = NewDirectory(_make_part(root, base))
    try:
        yield new
        new.final = _claim(new.path, root, base)
    except BaseException:
        shutil.rmtree(new.path, ignore_errors=True)
        raise


@contextmanager
def exact_directory(target: Path, is_ours: Callable[[Path], bool]) -> Iterator[NewDirectory]:
    """Like ``new_directory``, for a directory that the user named: an empty one or an older result is replaced.

    ``is_ours`` tells a directory that holds nothing but an older result; anything else is left alone.

    Raises:
        ConfigError: ``target`` is a file, or a directory with something else in it.
    """
    target = target.resolve()  # what a link points to is replaced, not the link
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{target.name} is a file, a directory is needed there", "name another directory with out=")
    if target.is_dir() and any(target.iterdir()) and not is_ours(target):
        raise ConfigError(f"{target.name} holds other files", "name an empty or a new directory with out=")
    new = NewDirectory(_make_part(target.parent, safe_name(target.name)))
    old = new.path.with_suffix(".old")
    try:
        yield new
        if target.exists():
            target.rename(old)
        new.final = new.path.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(new.path, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def mark_parts(token: str) -> None:
    """Put ``token`` into the names of the unfinished directories that this process makes from now on.

    A parent that chose it finds what a child left that died. Process numbers would not do: folders are shared between machines.
    """
    global _mark  # noqa: PLW0603
    _mark = safe_name(token)


def _make_part(root: Path, base: str) -> Path:
    try:
        root.mkdir(parents=True, exist_ok=True)
        part = root / f".{base}.{_mark}.{time.monotonic_ns()}.part"
        part.mkdir()
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"{root} is a file, a directory is needed there", "choose another directory") from error
    except OSError as error:
        raise ConfigError(f"cannot write to {root}: {error.strerror}", "choose another directory") from error
    return part


def _claim(part: Path, root: Path, base: str) -> Path:
    for number in range(1, 1000):
        target = root / (base if number == 1 else f"{base}-{number}")
        try:
            target.mkdir()  # exclusive: two runs of the same second get two directories
        except FileExistsError:
            continue
        return part.rename(target)  # replaces the empty directory in one step
    raise ConfigError(f"{root} holds a thousand directories named {base}", "remove some, or choose another directory")


def write_facts(directory: Path, facts: RunFacts) -> None:
    """Write ``run.json``."""
    text = msgspec.json.format(msgspec.json.encode(facts), indent=2)
    home = str(Path.home())
    if len(home) > 1:  # warnings and factories may quote a path; whose home it lies in is nobody's business
        text = text.replace(home.encode(), b"~")
    part = directory / f".{RUN_FILE}.part"  # it may be there already, and must stay whole
    try:
        part.write_bytes(text + b"\n")
        part.replace(directory / RUN_FILE)
    finally:
        part.unlink(missing_ok=True)


def write_table(path: Path, frame: pd.DataFrame, table: Table) -> None:
    """Write ``frame`` as CSV with its declared columns; unavailable figures are empty."""
    table.check(frame).to_csv(path, index=False)


def trace_file(run: Path) -> Path:
    """Return the trace of the run directory ``run``; a bare trace is its own."""
    return run / TRACE_FILE if run.is_dir() else run


def open_run(path: Path) -> Run:
    """Return the run at ``path``: a run directory, or a bare Kineto trace that somebody else recorded.

    Raises:
        TraceError: nothing is there, or it is neither.
    """
    try:
        exists = path.exists()
    except (OSError, ValueError) as error:
        raise TraceError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}", _RUN_HINT) from error
    if not exists:
        raise TraceError(f"no run or trace at {path}", "give a run directory or a Kineto .json or .json.gz with runs=")
    if not path.is_dir():
        name = safe_name(shown_name(path.name).split(".")[0])
        return Run(name=name, trace=path, counters=_counters_beside(path), ungraphed=_ungraphed_beside(path))
    facts_file, trace = path / RUN_FILE, path / TRACE_FILE
    if not facts_file.is_file() or not trace.is_file():
        raise TraceError(f"{path} is no run directory: {RUN_FILE} or {TRACE_FILE} is missing", _RUN_HINT)
    return Run(
        name=path.name,
        trace=trace,
        facts=read_facts(facts_file),
        ops=_present(path / OPS_FILE),
        timings=_present(path / TIMINGS_FILE),
        samples=_present(path / SAMPLES_FILE),
        counters=_present(path / COUNTERS_FILE),
        compiled=_present(path / COMPILED_FILE),
        ungraphed=_present(path / UNGRAPHED_FILE),
    )


_RUN_HINT = "run `analyzer` to record one, or give the trace file itself with runs="


def _counters_beside(trace: Path) -> Path | None:
    """Return the counters that lie next to a bare trace: ``NAME.counters.csv``, or ``counters.csv`` in the same directory."""
    stem = trace.name.removesuffix(".gz").removesuffix(".json")
    return _present(trace.with_name(f"{stem}.{COUNTERS_FILE}")) or _present(trace.with_name(COUNTERS_FILE))


def _ungraphed_beside(trace: Path) -> Path | None:
    """Return the trace without CUDA graphs that lies next to a bare trace: ``NAME.ungraphed.json`` or the same with ``.gz``."""
    stem = trace.name.removesuffix(".gz").removesuffix(".json")
    return _present(trace.with_name(f"{stem}.ungraphed.json.gz")) or _present(trace.with_name(f"{stem}.ungraphed.json"))


def _present(path: Path) -> Path | None:
    return path if path.is_file() else None


def read_facts(path: Path) -> RunFacts:
    """Return the facts in ``run.json``.

    Raises:
        TraceError: not JSON, not ours, or written by a newer version.
    """
    if path.stat().st_size > _MAX_RUN_JSON_BYTES:
        raise TraceError(f"{path} is too large for a {RUN_FILE}", _RUN_HINT)
    try:
        facts = msgspec.json.decode(path.read_bytes(), type=RunFacts)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TraceError(f"{path} is damaged: {error}", _RUN_HINT) from error
    if facts.format_version > RUN_FORMAT_VERSION:
        raise TraceError(
            f"{path} has format {facts.format_version}, this version reads up to {RUN_FORMAT_VERSION}",
            "update the analyzer",
        )
    return facts


def read_timings(run: Run) -> pd.DataFrame:
    """Return the timings of ``run`` (table TIMINGS); empty for a bare trace."""
    from analyzer.schema.tables import TIMINGS

    frame = _read_table(run.timings, TIMINGS)
    if not (frame["latency_ms"] > 0).all():
        raise TraceError(f"{run.timings} is damaged: a latency is missing, zero or negative", "record the run again")
    return frame


def read_samples(run: Run) -> pd.DataFrame:
    """Return the telemetry of ``run`` (table SAMPLES); empty without."""
    from analyzer.schema.tables import SAMPLES

    return _read_table(run.samples, SAMPLES)


def _read_table(path: Path | None, table: Table) -> pd.DataFrame:
    if path is None:
        return table.empty()
    import pandas as pd

    try:
        frame = pd.read_csv(path)
        for column in table.columns:
            if column.dtype == "float":
                frame[column.name] = pd.to_numeric(frame[column.name], errors="raise").astype("float64")
                if frame[column.name].abs().max() > _MAX_FIGURE:  # infinity too
                    raise ValueError(f"{column.name} holds an absurd figure")
        return table.check(frame)
    except (ValueError, KeyError, TypeError) as error:
        raise TraceError(f"{path} is damaged: {str(error).splitlines()[0]}", "record the run again") from error
