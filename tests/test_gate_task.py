"""``task=gate``: exit codes, its three files, hostile names, and that all is written or nothing."""

from __future__ import annotations

import gzip
import html
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from analyzer.errors import EXIT_GATE, ConfigError, TraceError
from analyzer.progress import Reporter
from analyzer.report.gate_files import FILES, escaped
from analyzer.schema.settings import CaptureSettings, Settings
from analyzer.tasks.gate import gate
from analyzer.tasks.outcome import Outcome
from analyzer.trace.rundir import TRACE_FILE
from tests.report.hostile import FORBIDDEN, TEXTS, write_hostile_run
from tests.report.synthetic import Fake, write_run
from tests.traces import document, gpu_step, write


def hold(new: Any, old: Any, **more: Any) -> Outcome:
    runs, baseline = (tuple(map(str, side if isinstance(side, list) else [side])) for side in (new, old))
    settings = Settings(task="gate", models=(), capture=CaptureSettings(), runs=runs, baseline=baseline, **more)
    return gate(settings, Reporter(quiet=True))


def slow_down(run: Path, op: str, factor: float) -> None:
    """Multiply the time of the kernels of one operator in the trace of a run; what follows does not move."""
    trace = run / TRACE_FILE
    content = json.loads(gzip.decompress(trace.read_bytes()))
    for event in content["traceEvents"]:
        if event["cat"] == "kernel" and op in event["name"]:
            event["dur"] *= factor
    trace.write_bytes(gzip.compress(json.dumps(content).encode()))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Return a baseline and a new run of which nothing but gelu became slower, by a tenth, in the gaps between kernels."""
    old, new = (write_run(tmp_path / side, Fake(steps=5, idle_us=6.0)) for side in ("old", "new"))
    slow_down(new, "Gelu", 1.2)
    return old, new


def test_a_slower_operator_fails_the_gate_and_is_named(pair: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = pair
    outcome = hold(new, old, out=tmp_path / "out")
    assert outcome.exit_code == EXIT_GATE
    assert outcome.lines[1].startswith("Regression in ViT-B/16")
    text = "\n".join(outcome.lines)
    assert re.search(r"Slower: pointwise takes 1\.20x as long \(.*\), 140 µs before and 168 µs now", text)
    assert "  gelu 32x197x3072: 140 µs before, 168 µs now" in text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)


def test_the_same_runs_pass(pair: tuple[Path, Path], tmp_path: Path) -> None:
    old, _ = pair
    outcome = hold(old, old, out=tmp_path / "out", min_effect_pct=20.0)
    assert outcome.exit_code == 0
    assert outcome.not_measured == ()
    assert outcome.lines[1] == "No regression in 1 model"


def test_swapped_it_is_an_improvement(pair: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = pair
    outcome = hold(old, new, out=tmp_path / "out")
    assert outcome.exit_code == 0
    assert "1 figure improved" in outcome.lines[1]


def test_the_summary_holds_what_the_terminal_says(pair: tuple[Path, Path], tmp_path: Path) -> None:
    outcome = hold(pair[1], pair[0], out=tmp_path / "out")
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert found == outcome.document
    assert found["failed"] is True
    [row] = [row for row in found["models"][0]["rows"] if row["state"] == "regression"]
    assert row["name"] == "pointwise"
    assert row["ratio"]["value"] == pytest.approx(1.2, rel=1e-3)
    assert row["responsible"][0]["op"] == "gelu"


def test_junit_counts_cases_failures_and_skipped(pair: tuple[Path, Path], tmp_path: Path) -> None:
    cnn = write_run(tmp_path / "cnn", Fake("cnn"))
    hold(pair[1], [pair[0], cnn], out=tmp_path / "out")
    root = ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()
    check_junit(root)
    failures = root.findall("./testsuite/testcase/failure")
    assert [failure.get("message", "").split(" takes")[0] for failure in failures] == ["pointwise"]
    assert "gelu" in (failures[0].text or "")
    assert root.get("failures") == "1"
    assert root.get("skipped") == "1"  # the CNN, which has no new run


def check_junit(root: ElementTree.Element) -> None:
    """Check what the common schema of JUnit (Jenkins' junit-10.xsd) asks for: elements, attributes and their sums."""
    assert root.tag == "testsuites"
    for suite in root:
        assert suite.tag == "testsuite"
        cases = suite.findall("testcase")
        assert len(cases) == len(suite) == int(suite.attrib["tests"])
        assert len(suite.findall("testcase/failure")) == int(suite.attrib["failures"])
        assert len(suite.findall("testcase/skipped")) == int(suite.attrib["skipped"])
        for case in cases:
            assert case.attrib["name"]
            assert case.attrib["classname"] == suite.attrib["name"]
            assert {child.tag for child in case} <= {"failure", "skipped", "system-out"}
    for total in ("tests", "failures", "skipped", "errors"):
        assert int(root.attrib[total]) == sum(int(suite.attrib[total]) for suite in root)


def test_a_missing_model_is_said_and_strict(pair: tuple[Path, Path], tmp_path: Path) -> None:
    cnn = write_run(tmp_path / "cnn", Fake("cnn"))
    outcome = hold(pair[0], [pair[0], cnn], out=tmp_path / "out", min_effect_pct=20.0)
    assert outcome.exit_code == 0
    assert outcome.not_measured == ("ConvNeXt-B (batch 32, 224 px, bfloat16) has no new run",)


def test_bare_traces_say_that_they_are_judged_on_kernel_time(tmp_path: Path) -> None:
    traces = []
    for name, us in (("old", 150), ("new", 200)):
        events = gpu_step()
        kernels = [event for event in events if event["cat"] == "kernel"]
        kernels[0]["dur"] = us
        traces.append(write(tmp_path / f"{name}.json", document(events)))
    outcome = hold(traces[1], traces[0], out=tmp_path / "out")
    assert outcome.exit_code == EXIT_GATE
    text = "\n".join(outcome.lines)
    assert "kernel time alone is judged" in text
    assert "linear 128x64 32x64" in text
    assert "kernel time alone" in (tmp_path / "out" / "gate.md").read_text()


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_names_neither_render_nor_break_anything(name: str, tmp_path: Path) -> None:
    text = TEXTS[name]
    old, new = (write_hostile_run(tmp_path / side, Fake(idle_us=12.0, blocks=2), text) for side in ("old", "new"))
    slow_down(new, "Gelu", 1.5)
    outcome = hold(new, old, out=tmp_path / "out")
    assert outcome.exit_code == EXIT_GATE
    junit = (tmp_path / "out" / "junit.xml").read_bytes()
    check_junit(ElementTree.fromstring(junit))
    markdown = (tmp_path / "out" / "gate.md").read_text()
    bare = markdown.replace("<sub>", "").replace("</sub>", "")
    assert "<" not in bare
    assert not any(cell.count("|") != 7 for cell in markdown.splitlines() if cell.startswith("|"))
    assert len(markdown) < 20_000
    for found in (markdown, junit.decode(), *outcome.lines):
        assert not FORBIDDEN & set(found)
        assert not [char for char in found if ord(char) < 32 and char != "\n"]


@pytest.mark.parametrize(
    "text",
    ["@octocat", "#12", "a|b", "<b>", "`x`", "[a](http://b)", "![x](y)", "*a*", "__init__", "~~a~~", "$x$", "&lt;", "www.a.b",
     "https://a.b", ":tada:", "a\nb\r\nc", "\\|", "-->"],
)  # fmt: skip
def test_markdown_shows_a_name_as_it_is(text: str) -> None:
    found = escaped(text)
    assert "\n" not in found
    assert html.unescape(found) == " ".join(text.split())
    bare = re.sub(r"&#\d+;", "", found)
    assert not re.search(r"[@#|<>`*\[\]~$&\\]|https?:/|www\.|:\w+:|\b__", bare)


def test_a_plain_name_stays_readable() -> None:
    assert escaped("vit_tiny_patch16_224 (batch 1, 64 px): 1.2x") == "vit_tiny_patch16_224 (batch 1, 64 px): 1.2x"


def test_a_dry_run_writes_nothing(pair: tuple[Path, Path], tmp_path: Path) -> None:
    outcome = hold(pair[1], pair[0], out=tmp_path / "out", dry_run=True)
    assert outcome.lines[0].startswith("would hold")
    assert not (tmp_path / "out").exists()


def test_a_gate_is_replaced_and_other_files_are_not(pair: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    hold(pair[0], pair[0], out=out)
    hold(pair[1], pair[0], out=out)
    assert json.loads((out / "summary.json").read_text())["failed"] is True
    (out / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="other files"):
        hold(pair[0], pair[0], out=out)


def test_nothing_is_left_where_a_run_cannot_be_read(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(TraceError):
        hold(tmp_path / "nowhere", pair[0], reports=tmp_path / "reports")
    assert not list((tmp_path / "reports").iterdir())


def test_a_side_that_is_not_given_is_a_mistake(pair: tuple[Path, Path]) -> None:
    settings = Settings(task="gate", models=(), capture=CaptureSettings(), runs=(str(pair[0]),))
    with pytest.raises(ConfigError, match="baseline= is missing"):
        gate(settings, Reporter(quiet=True))


def test_a_run_named_twice_is_no_repeat(pair: tuple[Path, Path], tmp_path: Path) -> None:
    outcome = hold([pair[0], pair[0]], pair[0], out=tmp_path / "out")
    assert outcome.document["models"][0]["sides"]["new"]["runs"] == 1


def test_real_traces_of_two_gpus(public_traces: Path, tmp_path: Path) -> None:
    new, old = (public_traces / f"tracelens_{gpu}_vit_nsfw_infer.json.gz" for gpu in ("h100", "mi300"))
    outcome = hold(new, old, out=tmp_path / "out")
    rows = {row["name"]: row["state"] for row in outcome.document["models"][0]["rows"]}
    assert rows["attention"] == "improved"
    assert any("device: " in text for text in outcome.not_measured)
