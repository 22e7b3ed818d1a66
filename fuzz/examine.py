"""What must hold for every input: one clear error or tables, and no wrong total without a warning."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from analyzer.errors import TraceError
from analyzer.schema.tables import records
from analyzer.trace import document, source
from analyzer.trace.columns import MAX_DURATION_US, MAX_TIME_US
from analyzer.trace.kineto import Trace, read_trace
from analyzer.trace.link import link

KERNELS = ("kernel", "mtia_ccp_events")
_LOST = "events that cannot be read"


@dataclass(frozen=True, slots=True)
class Truth:
    """What the standard library reads: how many kernels, how many of them with sound times, and their total where all have.

    ``exact``: no duration has a part of a nanosecond.
    """

    count: int
    sound: int
    total_ns: int | None
    exact: bool


@contextlib.contextmanager
def pieces_of(size: int) -> Iterator[None]:
    """Have the reader cut its text into pieces of ``size`` bytes."""
    before = document.PIECE_BYTES, source.BLOCK_BYTES
    document.PIECE_BYTES = source.BLOCK_BYTES = size
    try:
        yield
    finally:
        document.PIECE_BYTES, source.BLOCK_BYTES = before


def examine(path: Path, plain: bytes | None, piece_bytes: int = document.PIECE_BYTES, *, analyse: bool = False) -> str:
    """Read and link the file at ``path``; return ``error``, ``warnings`` or ``sound``.

    ``plain`` is the JSON text in it where that is known; ``analyse``: everything that a report computes is computed as well.

    Raises:
        AssertionError: an answer that must not be.
    """
    try:
        with pieces_of(max(piece_bytes, path.stat().st_size // 2000)):
            trace = read_trace(path)
    except TraceError as error:
        check_error(error, plain)
        return "error"
    check_tables(trace)
    if plain is not None:
        check_against(trace, plain)
    if analyse:
        from analyzer.analysis import analyze

        analyze(path)
    if trace.warnings:
        return "warnings"
    whole = read_trace(path)
    assert not whole.warnings
    for name in ("device_events", "ops", "calls", "annotations", "frames"):
        # numbers of threads, and the order of operators of the old category among those of the new one, may differ
        rows, others = (sorted(map(repr, records(getattr(each, name).drop(columns="thread")))) for each in (trace, whole))
        assert rows == others, f"another size of pieces gives other {name}"
    return "sound"


def check_error(error: TraceError, plain: bytes | None) -> None:
    """Check that ``error`` is one line with a hint, and that there was nothing to read."""
    assert "\n" not in error.message, error.message
    assert error.hint
    truth = read_truth(plain) if plain is not None else None
    if truth is not None and _LOST not in error.message:
        assert not truth.sound, f"{truth.sound} kernels are refused: {error.message}"


def check_tables(trace: Trace) -> None:
    """Check what holds for the tables of every file, and that they can be linked."""
    for table in (trace.device_events, trace.ops, trace.calls, trace.annotations, trace.frames, trace.counter_ranges):
        assert (table["end_ns"] >= table["start_ns"]).all()
    assert not any("\n" in warning for warning in trace.warnings)
    linked = link(trace)
    launches = linked.launches
    assert (launches["dur_ns"] >= 0).all()
    if trace.device.type == "cuda":
        assert len(launches) == len(trace.device_events)
        kernels = launches.loc[launches["category"] == "kernel", "dur_ns"]
        assert int(kernels.sum()) == sum(trace.kernels["dur_ns"].tolist())


def check_against(trace: Trace, plain: bytes) -> None:
    """Compare the kernels with those that the standard library reads, where the text is JSON."""
    truth = read_truth(plain)
    if truth is None or any("lists of events" in warning for warning in trace.warnings):
        return
    kernels = trace.kernels["dur_ns"].tolist()
    lost = sum(int(warning.rpartition(" ")[2]) for warning in trace.warnings if warning.startswith(_LOST))
    assert len(kernels) >= truth.sound - lost, (len(kernels), truth, trace.warnings)
    if not lost:
        assert len(kernels) <= truth.count, (len(kernels), truth)
    if not trace.warnings:
        assert truth.total_ns is not None, "a kernel without a sound time was taken in silence"
        assert len(kernels) == truth.count, (len(kernels), truth)
        assert abs(sum(kernels) - truth.total_ns) <= (0 if truth.exact else len(kernels)), (sum(kernels), truth)


def read_truth(plain: bytes) -> Truth | None:
    """Return what the standard library reads in ``plain``; None where that is no JSON, or no list of events."""
    lists = 0

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal lists
        lists += sum(key == "traceEvents" for key, _ in pairs)
        return dict(pairs)

    try:
        found = json.loads(plain.decode("utf-8-sig"), parse_float=Decimal, parse_constant=_refuse, object_pairs_hook=collect)
    except (ValueError, RecursionError, ArithmeticError):
        return None
    events = found.get("traceEvents") if isinstance(found, dict) else found
    if lists > 1 or not isinstance(events, list):
        return None
    kernels = [e for e in events if isinstance(e, dict) and e.get("ph") == "X" and str(e.get("cat")).lower() in KERNELS]
    times = [(_time(e.get("ts")), _time(e.get("dur"))) for e in kernels]
    lengths = [d for at, d in times if at is not None and d is not None and d <= MAX_DURATION_US and round(d * 1000) >= 0]
    total = sum(int((length * 1000).to_integral_value()) for length in lengths) if len(lengths) == len(kernels) else None
    return Truth(len(kernels), len(lengths), total, all(length * 1000 == int(length * 1000) for length in lengths))


def _refuse(name: str) -> None:
    raise ValueError(name)


def _time(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    try:
        number = Decimal(value)
    except ArithmeticError:
        return None
    return number if number.is_finite() and abs(number) < MAX_TIME_US else None
