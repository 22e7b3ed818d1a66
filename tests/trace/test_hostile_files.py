"""Files that are no whole trace: cut at any byte, packed and damaged, bombs, directories, FIFOs; and reading in two processes."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest
import zstandard

from analyzer.errors import TraceError
from analyzer.trace import document, source, worker
from analyzer.trace.kineto import Trace, read_trace
from tests import traces
from tests.conftest import ROOT

EVENTS = [traces.kernel(f'k{i} }},{{"ph": "X" ]}} \\"', 10 * i, 1.5 + i, i) for i in range(6)]
TEXT = json.dumps(traces.document(EVENTS)).encode()
MISSING = "whatever stood behind that point is missing from every figure"
TABLES = ("device_events", "ops", "calls", "annotations", "frames", "counter_ranges")


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "t.json"
    path.write_bytes(data)
    return path


def assert_same(a: Trace, b: Trace) -> None:
    """Threads may have other numbers, since they are counted as they come, table by table of each piece."""
    threads: set[tuple[int, int]] = set()
    for name in TABLES:
        one, other = getattr(a, name), getattr(b, name)
        pd.testing.assert_frame_equal(one.drop(columns="thread"), other.drop(columns="thread"), check_categorical=False)
        threads |= set(zip(one["thread"].tolist(), other["thread"].tolist(), strict=True))
    assert len({i for i, _ in threads}) == len({j for _, j in threads}) == len(threads)
    assert all(a.processes[i] == b.processes[j] for i, j in threads)
    assert (a.device, a.event_count, a.warnings) == (b.device, b.event_count, b.warnings)


def names_of(data: bytes, path: Path) -> tuple[list[str], tuple[str, ...]]:
    path.write_bytes(data)
    try:
        trace = read_trace(path)
    except TraceError as error:
        assert "\n" not in error.message  # noqa: PT017
        assert error.hint  # noqa: PT017
        return [], (error.message,)
    return trace.kernels["name"].tolist(), trace.warnings


@pytest.mark.parametrize("indent", [None, 1])
def test_cut_at_every_byte_it_keeps_what_is_whole(tmp_path: Path, indent: int | None) -> None:
    events = [
        {"ph": "X", "cat": "kernel", "name": name, "ts": i, "dur": 1, "args": {"stream": i}}
        for i, name in enumerate(("a", "},{"))
    ]
    text = json.dumps({"a": 1, "traceEvents": events, "b": [2]}, indent=indent).encode()
    closed = [text.index(b"}", text.index(b"}", text.index(f'"stream": {i}'.encode())) + 1) + 1 for i in range(2)]
    for size in range(len(text)):
        names, told = names_of(text[:size], tmp_path / "t.json")
        assert names == [event["name"] for event, end in zip(events, closed, strict=True) if end <= size], size
        assert told, size


def test_gzip_cut_anywhere_keeps_the_first_events_and_tells(tmp_path: Path) -> None:
    packed = gzip.compress(TEXT, mtime=0)
    known = [e["name"] for e in EVENTS]
    counts = []
    for size in range(0, len(packed), 3):
        names, told = names_of(packed[:size], tmp_path / "t.json.gz")
        assert names == known[: len(names)]
        assert told
        counts.append(len(names))
    assert counts == sorted(counts)
    assert counts[-1] == 6
    assert names_of(packed[:-8], tmp_path / "t.json.gz") == (known, (f"the gzip file is cut off: {MISSING}",))


def test_a_flipped_byte_in_gzip_is_never_silent(tmp_path: Path) -> None:
    packed = gzip.compress(TEXT, mtime=0)
    for at in range(10, len(packed), 7):
        _, told = names_of(packed[:at] + bytes([packed[at] ^ 0x55]) + packed[at + 1 :], tmp_path / "t.json.gz")
        assert told, at
    known = [e["name"] for e in EVENTS]
    wrong = packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]
    assert names_of(wrong, tmp_path / "t.json.gz") == (known, (f"the gzip file is damaged (incorrect data check): {MISSING}",))


def test_several_gzip_members_and_zeros_behind_them_are_one_file(tmp_path: Path) -> None:
    whole = read_trace(write(tmp_path, TEXT))
    for parts in ((TEXT,), (TEXT[:100], b"", TEXT[100:]), tuple(TEXT[i : i + 50] for i in range(0, len(TEXT), 50))):
        for behind in (0, 1000):
            data = b"".join(gzip.compress(part, mtime=0) for part in parts) + bytes(behind)
            assert_same(read_trace(write(tmp_path, data)), whole)


def test_many_empty_gzip_members_cost_little(tmp_path: Path) -> None:
    began = time.process_time()
    whole = read_trace(write(tmp_path, gzip.compress(b"", mtime=0) * 100_000 + gzip.compress(TEXT, mtime=0)))
    assert time.process_time() - began < 3
    assert_same(whole, read_trace(write(tmp_path, TEXT)))


def test_zstd_is_read_whole_and_never_silent_when_cut_or_altered(tmp_path: Path) -> None:
    packed = zstandard.ZstdCompressor(write_checksum=True).compress(TEXT)
    assert_same(read_trace(write(tmp_path, packed)), read_trace(write(tmp_path, TEXT)))
    half = zstandard.ZstdCompressor().compress(TEXT[:500]) + zstandard.ZstdCompressor().compress(TEXT[500:])
    assert_same(read_trace(write(tmp_path, half)), read_trace(write(tmp_path, TEXT)))
    known = [e["name"] for e in EVENTS]
    for size in range(0, len(packed), 3):
        names, told = names_of(packed[:size], tmp_path / "t.json")
        assert names == known[: len(names)]
        assert told, size
    for at in range(8, len(packed), 7):
        _, told = names_of(packed[:at] + bytes([packed[at] ^ 0x55]) + packed[at + 1 :], tmp_path / "t.json")
        assert told, at


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: zstandard.ZstdCompressor().compress(data)])
def test_a_bomb_is_stopped_and_the_limit_can_be_raised(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = write(tmp_path, pack(TEXT[:-1] + b" " * (80 << 20) + b"}"))
    with pytest.raises(TraceError, match="unpacks to more than 64 MiB, over 100 times its size") as caught:
        read_trace(path)
    assert caught.value.hint == "if you trust the file, raise the limit: max_expansion=1000"
    assert len(read_trace(path, max_expansion=1e6).kernels) == 6


def test_what_is_no_file_gets_one_line_and_no_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo.json")
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    for name, says in (("", "is a directory"), ("fifo.json", "is no regular file"), ("none.json", "No such file"), ("loop.json", "cannot read"),
                       ("n" * 300, "cannot read"), ("nul\0", "cannot read")):  # fmt: skip
        with pytest.raises(TraceError, match=says):
            read_trace(tmp_path / name)

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path, TEXT)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(TraceError, match=r"cannot read .*t\.json: Permission denied$"):
        read_trace(path)


MEASURE = """
import sys
from pathlib import Path
from analyzer.errors import TraceError
from analyzer.trace.kineto import read_trace
try:
    print(len(read_trace(sys.argv[1]).kernels))
except TraceError as error:
    print(type(error).__name__)
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""
LONG = 16_000_000
EVENT = b'{"ph":"X","cat":"kernel","name":"k","ts":1,"dur":2},'
VAST = {
    "key without end": (b'{"' + b"a" * LONG, "TraceError"),
    "text beside the events": (b'{"x":"' + b"a" * LONG + b'","traceEvents":[' + EVENT + b"{}]}", "1"),
    "list beside the events": (b'{"x":[' + b"1," * (LONG // 2) + b'1],"traceEvents":[' + EVENT + b"{}]}", "1"),
    "backslashes": (b"[" + EVENT + b'"' + b"\\" * LONG, "1"),
    "brackets without end": (b"[" + EVENT + b"[" * LONG, "1"),
    "no events": (b"[" + EVENT + b"null," * (LONG // 5) + b"{}]", "1"),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("case", VAST)
def test_vast_text_needs_little_more_than_its_own_memory(tmp_path: Path, case: str) -> None:
    text, expected = VAST[case]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(write(tmp_path, text))], capture_output=True, text=True, check=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    found, peak_kib = done.stdout.split()
    assert found == expected
    assert int(peak_kib) < 400_000


@pytest.mark.parametrize("piece", [48, 64, 150, 1000])
def test_pieces_of_any_size_give_the_same_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    nested = [
        event | {"args": event["args"] | {"list": [{"ph": "X", "cat": "kernel", "ts": 1}, {"a": [{}, {}]}]}} for event in EVENTS
    ]
    texts = [TEXT, json.dumps([*traces.gpu_step(), *nested]).encode(), json.dumps(traces.document(nested), indent=2).encode(),
             json.dumps(traces.document(traces.gpu_step() + EVENTS), separators=(",", ":")).encode(),
             TEXT.replace(b'"ts": 30', b'"ts": N/A').replace(b'"k2', b'"\xff\x01'), TEXT.replace(b"}}, {", b"}}\n\n ,\t{")]  # fmt: skip
    whole = [read_trace(write(tmp_path, text)) for text in texts]
    monkeypatch.setattr(document, "PIECE_BYTES", piece)
    monkeypatch.setattr(source, "BLOCK_BYTES", piece)
    for text, expected in zip(texts, whole, strict=True):
        found = read_trace(write(tmp_path, text))
        assert_same(found, expected)


def test_names_full_of_structure_are_cut_right_at_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(1)
    pieces = ["},{", "]}", '"', "\\", "{", "[", ",", ": ", '{"ph":"X",', " ", "a"]
    for piece in (40, 90, 1 << 20):
        monkeypatch.setattr(document, "PIECE_BYTES", piece)
        monkeypatch.setattr(source, "BLOCK_BYTES", piece)
        for _ in range(40):
            names = ["".join(random.choices(pieces, k=random.randint(0, 20))) for _ in range(8)]
            path = traces.write(
                tmp_path / "t.json", traces.document([traces.kernel(name, i, 1, i) for i, name in enumerate(names)])
            )
            trace = read_trace(path)
            assert (trace.kernels["name"].tolist(), trace.warnings) == (names, ())


def long_text(count: int = 15_000) -> bytes:
    events = [traces.op(f"aten::op{i % 50}", i, 0.5, ext=i) for i in range(count)] + [
        traces.kernel(f"k{i % 90}", i, 0.25, i) for i in range(count)
    ]
    return json.dumps(traces.document(events)).encode()


@pytest.fixture
def early_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "START_BYTES", 1 << 16)
    monkeypatch.setattr(document, "PIECE_BYTES", 1 << 16)
    monkeypatch.setattr(source, "BLOCK_BYTES", 1 << 16)


@pytest.mark.usefixtures("early_worker")
@pytest.mark.parametrize("damage", ["none", "broken", "far times", "broken, then far times"])
def test_two_processes_read_what_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    text = long_text()
    if "broken" in damage:
        text = text.replace(b'"name": "k7"', b'"name": "k7', 1)
    if "far" in damage:
        head, _, tail = text.rpartition(b'"dur": 0.25')
        text = head + b'"dur": 0.25, "ts": 1700000000123456.789' + tail
    path = write(tmp_path, text)
    both = read_trace(path)
    monkeypatch.setattr(worker, "START_BYTES", 1 << 40)
    assert_same(both, read_trace(path))


@pytest.mark.usefixtures("early_worker")
def test_a_mended_piece_before_far_times_is_read_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker gives up at the first, so the file is read again, and once more for the second."""
    monkeypatch.setattr(worker, "_QUEUE", 10**6)
    events = [traces.kernel(f"k{i}", i, 1, i) for i in range(2000)]
    text = json.dumps(events).replace('"ts": 700, "dur": 1', '"ts": 700, "dur": N/A')
    trace = read_trace(write(tmp_path, text.replace('"ts": 1500,', '"ts": 1700000000123456.789,').encode()))
    assert trace.kernels["start_ns"].tolist()[1500] == 1700000000123456789
    assert len(trace.warnings) == 2


@pytest.mark.usefixtures("early_worker")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_dies_costs_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    path = write(tmp_path, long_text())
    expected = read_trace(path)
    started: list[subprocess.Popen[bytes]] = []
    take, calls = worker.Worker.take, itertools.count()

    def take_and_kill(self: worker.Worker, text: memoryview, piece: int) -> bool:
        process = self._process
        if process is not None and next(calls) == 5:
            started.append(process)
            process.send_signal(number)
        return take(self, text, piece)

    monkeypatch.setattr(worker.Worker, "take", take_and_kill)
    assert_same(read_trace(path), expected)
    assert len(started) == 1
