"""The annotated trace is a valid Trace Event file whatever it is made of, keeps every digit, and names nobody."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analyzer.analysis import analyze
from analyzer.capture import profiler
from analyzer.errors import AnalyzerError
from analyzer.report.perfetto import write_annotated
from analyzer.report.perfetto.events import FIRST_PID
from analyzer.report.perfetto.original import HEADER, cleaned, mend
from analyzer.trace import document as reader
from tests import traces
from tests.report.hostile import FORBIDDEN, TEXTS, write_hostile_run
from tests.report.synthetic import Fake, write_run
from tests.report.test_perfetto import annotated, assert_equal, same
from tests.report.trace_format import faults, load, unpaired_flows
from tests.trace.test_hostile import CASES, SOUND
from tests.trace.test_privacy import HOME, HOST, USER
from tests.trace.test_privacy import document as private_document

HOSTILE = sorted((Path(__file__).parents[1] / "trace" / "hostile").glob("*.json"))


def rewritten(path: Path) -> tuple[str, Any]:
    """Return the text of the annotated trace of ``path`` and the analysis of the original."""
    a = analyze(path)
    target = path.parent / "out.perfetto.json.gz"
    write_annotated(a, target)
    return gzip.decompress(target.read_bytes()).decode(), a


def test_the_validator_finds_what_is_wrong() -> None:
    """A validator that accepts everything would prove nothing."""
    sound = {"ph": "X", "name": "k", "pid": 1, "tid": "s", "ts": 1, "dur": 0}
    wrong: list[dict[str, Any]] = [
        {"ph": "?"}, {"dur": -1}, {"dur": None}, {"ts": "1"}, {"pid": None}, {"name": 7}, {"args": []}, {"cat": 1}, {"tid": 1.5},
        {"ph": "C"}, {"ph": "C", "args": {"a": "1"}}, {"ph": "s"}, {"ph": "M", "args": {}}, {"ph": "i", "s": "x"}, {"ph": "E"}, {"ph": "B"},
    ]  # fmt: skip
    assert faults({"traceEvents": [sound]}) == []
    for change in wrong:
        assert faults({"traceEvents": [sound | change]}), change
    back = [sound | {"ph": "B", "ts": 5}, sound | {"ph": "E", "ts": 4}]
    assert "out of order" in faults({"traceEvents": back})[0]
    assert faults({"traceEvents": [], "hostname": "x"}) == ["top level: hostname"]


@pytest.mark.parametrize("path", HOSTILE, ids=lambda p: p.stem)
def test_a_hostile_file_is_annotated_or_told_in_one_line(tmp_path: Path, path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    try:
        _, a = rewritten(copy)
    except AnalyzerError as error:
        told = error.message
    else:
        told = ""
    if told:
        assert "\n" not in told
        return
    found = load(tmp_path / "out.perfetto.json.gz")
    assert faults(found) == []
    assert sum("analyzer" in e.get("args", {}) for e in found["traceEvents"]) == len(a.launches)
    b = analyze(tmp_path / "out.perfetto.json.gz")
    for name in ("wall_us", "kernel_time_us", "kernel_count", "copy_us", "busy_us", "idle_us", "flop", "bytes_compulsory"):
        assert same(getattr(a.totals, name), getattr(b.totals, name)), name


@pytest.mark.parametrize("case", CASES)
def test_a_strange_kernel_beside_a_sound_one(tmp_path: Path, case: str) -> None:
    strange = CASES[case][0]
    path = tmp_path / "t.json"
    path.write_bytes(f'{{"traceEvents": [{SOUND}, {strange}]}}'.encode("utf-8", "surrogateescape"))
    _, a = rewritten(path)
    assert faults(load(tmp_path / "out.perfetto.json.gz")) == []
    b = analyze(tmp_path / "out.perfetto.json.gz")
    assert b.launches["dur_ns"].tolist() == a.launches["dur_ns"].tolist()
    assert b.launches["start_ns"].tolist() == a.launches["start_ns"].tolist()


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("kind", TEXTS)
def test_hostile_texts(tmp_path: Path, device: str, kind: str) -> None:
    """What the analyzer writes is clean and short; the names that the trace itself has stay its own."""
    a = analyze(write_hostile_run(tmp_path, Fake(device=device, steps=2, blocks=1), TEXTS[kind]))
    document, written = annotated(a, tmp_path)
    assert written.annotated == len(a.launches)
    ours = [e for e in document["traceEvents"] if isinstance(e["pid"], int) and e["pid"] >= FIRST_PID]
    ours += [e["args"]["analyzer"] for e in document["traceEvents"] if "analyzer" in e.get("args", {})]
    for event in ours:
        text = json.dumps(event, ensure_ascii=False, default=float)
        assert len(text) < 3000
        assert not FORBIDDEN & set(text)


def test_numbers_keep_every_digit(tmp_path: Path) -> None:
    events = [json.dumps(e) for e in traces.gpu_step()]
    digits = '"a": 12345678901234567890123, "b": 0.10000000000000000555, "c": -1.50e+3, "d": [1.0, {"e": 9007199254740993}]'
    events[-2] = events[-2].replace('"args": {', '"args": {' + digits + ", ")
    assert digits in events[-2]
    path = tmp_path / "t.json"
    path.write_text('{"traceEvents": [' + ",".join(events) + '], "baseTimeNanoseconds": 1700000000123456789012}')
    text, _ = rewritten(path)
    assert digits in text
    assert '"baseTimeNanoseconds":1700000000123456789012' in text


def test_times_since_1970_keep_their_nanoseconds(tmp_path: Path) -> None:
    events = [json.dumps(e).replace('"ts": ', '"ts": 1700000000000000.123') for e in traces.gpu_step() if e["ts"] < 10]
    events += [json.dumps(traces.kernel("k", 5, 2, 1)).replace('"ts": 5', '"ts": 1700000000000007.457')]
    path = tmp_path / "t.json"
    path.write_text(f"[{','.join(events)}]")
    text, a = rewritten(path)
    assert a.launches["start_ns"].tolist() == [1700000000000007457]
    assert text.count('"ts":1700000000000007.457') == 3, "the kernel, its step and the slice of its kind"
    assert_equal(a, analyze(tmp_path / "out.perfetto.json.gz"))


def test_events_stay_in_their_order_and_arrows_whole(tmp_path: Path) -> None:
    flow = {"cat": "ac2g", "name": "ac2g", "id": 11, "pid": 1, "tid": 1}
    added = [flow | {"ph": "s", "ts": 40}, flow | {"ph": "f", "bp": "e", "ts": 100, "pid": 0, "tid": 7}]
    events = [*traces.gpu_step(), *added]
    a = analyze(traces.write(tmp_path / "t.json", traces.document(events)))
    document, _ = annotated(a, tmp_path)
    kept = document["traceEvents"][: len(events)]
    for before, after in zip(events, kept, strict=True):
        after.get("args", {}).pop("analyzer", None)
        assert after == before
    assert unpaired_flows(kept) == []
    assert unpaired_flows(kept[-1:]) == [11]


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_an_annotated_trace_is_annotated_anew(tmp_path: Path, device: str) -> None:
    """Tracks and findings of an earlier time are replaced: nothing is there twice."""
    one = write_run(tmp_path, Fake(device=device, steps=2)) / "trace.pt.trace.json.gz"
    bare = tmp_path / "t.json.gz"
    bare.write_bytes(one.read_bytes())
    first, _ = rewritten(bare)
    again = tmp_path / "second" / "t.json.gz"
    again.parent.mkdir()
    again.write_bytes(gzip.compress(first.encode()))
    assert json.loads(rewritten(again)[0]) == json.loads(first)


def test_a_file_is_the_same_whatever_its_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_run(tmp_path, Fake()) / "trace.pt.trace.json.gz"
    whole, _ = rewritten(path)
    monkeypatch.setattr(reader, "PIECE_BYTES", 700)
    assert rewritten(path)[0] == whole
    assert rewritten(path)[0] == whole, "and the same every time"


def test_the_header_is_what_our_own_traces_keep() -> None:
    ours = set(HEADER) | {"traceEvents"}
    assert set(profiler._KEPT) <= ours
    assert ours - set(profiler._KEPT) == {"computeProperties", "roctracer_version", "distributedInfo"}


def test_nobody_is_named(tmp_path: Path) -> None:
    """Hosts and users in keys that name them, homes in texts, folders of stacks, labels of processes, the header.

    What the profiler's own names hold stays: they are those of the trace.
    """
    given = private_document()
    given["traceEvents"] = [event for event in given["traceEvents"] if HOST not in event["name"]]
    for event in given["traceEvents"]:
        event["args"].pop("Process Group Description", None)
    path = traces.write(tmp_path / "t.json", given)
    text, a = rewritten(path)
    for secret in (HOME, HOST, "10.1.2.3", "secret-label", "/home/", "cwd", "hostname", "master_addr"):
        assert secret not in text, secret
    document = load(tmp_path / "out.perfetto.json.gz")
    assert document["distributedInfo"] == {"rank": 0, "world_size": 8}
    names = {e["name"]: e for e in document["traceEvents"]}
    assert "train.py(12): my_private_function" in names
    assert names["process_name"]["args"] == {"name": "python …/train.py"} or names["process_name"]["pid"] >= FIRST_PID
    assert names["aten::addmm"]["args"]["Call stack"] == "train.py(3): my_private_function;x.py(1): run"
    assert names["aten::addmm"]["args"]["kernel_file"] == "…/secret_kernel_file.py"
    assert "process_labels" not in names
    assert USER not in json.dumps([e for e in document["traceEvents"] if e["ph"] == "X"], default=str)
    assert_equal(a, analyze(tmp_path / "out.perfetto.json.gz"))


def test_homes_in_nested_arguments() -> None:
    raw = rb'{"a": ["C:\\Users\\me you\\x.pt", {"user": "me", "b": "\/home\/me\/y.py"}], "Host": 1, "c": 1.50}'
    assert json.loads(cleaned(raw)) == {"a": ["…/x.pt", {"b": "…/y.py"}], "c": 1.5}
    assert cleaned(raw).endswith(b'"c":1.50}')
    deep = b"[" * 100 + b"]" * 100
    assert json.loads(cleaned(deep)) is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("ph", "cat", "name", "ts", "dur", "pid", "tid", "args", "id", "s", "bp", "id2", "other")
EVENTS = st.fixed_dictionaries(
    {"ph": st.sampled_from("BEXiICMsftbne?") | JSON},
    optional={key: JSON | st.sampled_from(["1", "g", "process_name", 5, {"name": "n", "labels": "CPU"}]) for key in KEYS[1:]},
)


@given(EVENTS)
@example({"ph": "s", "ts": 1, "id": None, "id2": "1"})
@example({"ph": "f", "ts": 1, "id": 1.5})
@settings(max_examples=300)
def test_what_is_mended_is_valid(event: dict[str, Any]) -> None:
    raw = {key: json.dumps(value).encode() for key, value in event.items() if key != "other"}
    if mend(raw):
        found = json.loads(b"{%b}" % b",".join(b'"%b":%b' % (key.encode(), value) for key, value in raw.items()))
        left = [fault for fault in faults({"traceEvents": [found]}) if not re.search("E without B|B without E", fault)]
        assert left == []


@given(st.lists(EVENTS, max_size=5))
@settings(max_examples=40, deadline=None)
def test_no_event_breaks_the_file(events: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = traces.write(Path(folder) / "t.json", traces.document([*traces.gpu_step(), *events]))
        a = analyze(path)
        write_annotated(a, Path(folder) / "out.json.gz")
        b = analyze(Path(folder) / "out.json.gz")
        assert b.totals.kernel_count == a.totals.kernel_count
        assert same(b.totals.kernel_time_us, a.totals.kernel_time_us)
