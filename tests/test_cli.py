"""The command line: settings, errors of one line, what is imported when."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from analyzer.cli.failures import config_dir
from analyzer.cli.reading import read_settings
from analyzer.errors import ConfigError
from analyzer.schema.settings import Settings
from analyzer.tasks.inputs import REPORT_FILES
from tests import traces

CHOICES = {"vit": "vit_base_patch16_224", "cnn": "convnext_base", "task": "profile"}


def settings(*overrides: str, **choices: str) -> Settings:
    with initialize_config_dir(version_base="1.3", config_dir=config_dir()):
        return read_settings(compose("config", overrides=list(overrides)), CHOICES | choices)


def run(*args: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "analyzer", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


def assert_one_line_and_hint(done: subprocess.CompletedProcess[str], cwd: Path, says: str) -> None:
    lines = [line for line in done.stderr.splitlines() if not re.match(r"^  \S.*: \d+\.\d s", line)]
    assert done.returncode == 1, done.stderr
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("analyzer: ")
    assert says in lines[0]
    assert lines[1].startswith("hint: ")
    assert [p for p in cwd.rglob("*") if ".part" in p.name or p.name == "run.json"] == []


def test_defaults_are_the_default_pair() -> None:
    found = settings()
    assert [m.name for m in found.models] == ["vit_base_patch16_224", "convnext_base"]
    assert [m.label for m in found.models] == ["ViT-B/16", "ConvNeXt-B"]
    assert found.capture.device == "auto"
    assert found.capture.traced_steps >= 3


def test_one_model_and_any_timm_name() -> None:
    found = settings("cnn=none", "vit.name=beit_base_patch16_224", cnn="none")
    assert [(m.name, m.label) for m in found.models] == [("beit_base_patch16_224", "beit_base_patch16_224")]
    own = settings("cnn=none", "vit.factory=my.models:build", cnn="none").models[0]
    assert (own.factory, own.label) == ("my.models:build", "build")


@pytest.mark.parametrize("name", sorted(p.stem for f in ("vit", "cnn") for p in (Path(config_dir()) / f).glob("*.yaml")))
def test_every_model_file_is_named_by_its_model(name: str) -> None:
    for family in ("vit", "cnn"):
        file = Path(config_dir()) / family / f"{name}.yaml"
        if file.is_file():
            found = settings(f"{family}={name}", **{family: name})
            names = [m.name for m in found.models if m.family == family]
            assert names == ([] if name == "none" else [name])


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("batch_size=abc", "whole number"), ("batch_size=0", "at least 1"), ("batch_size=1.5", "whole number"),
        ("image_size=-3", "at least 1"), ("json=maybe", "true or false"), ("calibrate=sometimes", "one of"),
        ("device=null", "must be text"), ("sample_period_s=0", "at least"), ("repeats=0", "at least 1"),
        ("iterations=9", "at least 10"), ("traced_steps=2", "at least 3"), ("seed=null", "no preset"), ("out=[a,b]", "must be text"),
        ("out=", "must be text"), ("gpu_spec=", "must be text"), ("gpu_spec=[a]", "must be text"), ("runs=[]", "must name paths"), ("~device", "missing"), ("~vit.name", "missing"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        settings(override)
    assert caught.value.hint


def test_the_command_that_is_recorded_names_no_place(tmp_path: Path) -> None:
    code = (
        "from analyzer import cli; import sys; sys.argv=['analyzer','dry_run=true','out=/secret/x','batch_size=2'];"
        "cli._run=lambda s, sweep: print(s.capture.command) or 0; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "batch_size=2" in done.stdout
    assert "secret" not in done.stdout


def test_the_command_that_is_recorded_names_no_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from analyzer import cli

    config = SimpleNamespace(overrides=SimpleNamespace(task=["gpu_spec=secret.yaml", "batch_size=2"]))
    monkeypatch.setattr(cli.HydraConfig, "get", lambda: config)
    assert cli._command() == ("analyzer", "gpu_spec=<path>", "batch_size=2")


SHEET = """\
name: My GPU
vendor: NVIDIA
architecture: Hopper
device_names: [NVIDIA H100 80GB HBM3]
figures:
  dram_bandwidth: {value: 1234, unit: GB/s, source: measured by me}
peaks:
  matrix:
    float16: {value: 567, unit: TFLOP/s, source: measured by me}
"""


def test_an_own_sheet_reaches_the_analysis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analyzer import analysis, tasks
    from analyzer.progress import Reporter

    given = []

    class ReachedError(Exception):
        pass

    def analyze(run: Path, selection: object, ahead: object, sheet: object, counters: object) -> None:
        given.append(sheet)
        raise ReachedError

    monkeypatch.setattr(analysis, "analyze", analyze)
    trace = traces.write(tmp_path / "t.json", traces.document(traces.gpu_step()))
    (tmp_path / "my.yaml").write_text(SHEET)
    with pytest.raises(ReachedError):
        tasks.run(settings("task=report", f"runs={trace}", f"gpu_spec={tmp_path}/my.yaml", f"out={tmp_path}/r"), Reporter())
    assert [(sheet.name, sheet.own, sheet.dram_gbps) for sheet in given] == [("My GPU", True, 1234)]


def test_an_own_sheet_is_in_the_report(tmp_path: Path) -> None:
    traces.write(tmp_path / "t.json", traces.document(traces.gpu_step()))
    (tmp_path / "my.yaml").write_text(SHEET)
    done = run("task=report", "runs=t.json", "gpu_spec=my.yaml", "out=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "r" / "index.html").read_text(encoding="utf-8")
    assert "My GPU" in page
    assert "1,234" in page or "1234" in page
    assert "datasheet of H100 SXM5 80GB" not in page


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("unit: GB/s", "unit: TB/s", "my.yaml: figures.dram_bandwidth.unit: expected GB/s, not 'TB/s'"),
        ("1234", "fast", "my.yaml: figures.dram_bandwidth.value: expected a number, not text"),
        ("vendor: NVIDIA", "vendor: {", ": no YAML: "),
    ],
)
@pytest.mark.parametrize("task", ["report", "profile"])
def test_a_wrong_sheet_ends_at_once(tmp_path: Path, task: str, old: str, new: str, says: str) -> None:
    traces.write(tmp_path / "t.json", traces.document(traces.gpu_step()))
    (tmp_path / "my.yaml").write_text(SHEET.replace(old, new, 1))
    given = ["runs=t.json"] if task == "report" else []
    done = run(f"task={task}", *given, "gpu_spec=my.yaml", cwd=tmp_path)
    assert_one_line_and_hint(done, tmp_path, says)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my.yaml", "t.json"]


def test_help_names_every_group_and_setting_and_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv=['analyzer','--help']; from analyzer.cli import main; main();"
        "heavy={'torch','pandas','numpy','matplotlib','timm'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for word in (
        "vit_base_patch16_224",
        "convnext_base",
        "batch_size",
        "strict",
        "gpu_spec",
        "task=report",
        "tensorboard",
        "Exit codes",
    ):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["vit=vit_bas_patch16_224"], "no vit called"),
        (["batchsize=3"], "no setting called 'batchsize'"),
        (["task=nope"], "no task called"),
        (["runs=a=b"], "mismatched input"),
        (["task=report"], "runs= is missing"),
        (["task=report", "runs=nothing"], "no run or trace at nothing"),
        (["task=report", "runs=none/*"], "no run or trace matches"),
        (["vit=none", "cnn=none"], "nothing to run"),
        (["runs=traces/X"], "takes no runs="),
        (["gpu_spec=none.yaml"], "gpu_spec=none.yaml is missing"),
        (["gpu_spec=.", "dry_run=true"], "gpu_spec=. is no file"),
        (["task=doctor", "gpu_spec=none.yaml"], "gpu_spec= tells of the GPU of traces"),
        (["vit=null"], "must be a string"),
        (["task=report", "runs=" + "a" * 5000], "too long"),
    ],
)
def test_mistakes_get_one_line_and_a_hint(tmp_path: Path, args: list[str], says: str) -> None:
    assert_one_line_and_hint(run(*args, cwd=tmp_path), tmp_path, says)
    assert list(tmp_path.rglob("*")) in ([], [tmp_path / "reports"])


@pytest.mark.parametrize("content", [b"", b"{", b"hello", b'{"a": 1}', b"\x1f\x8b\x08broken", b'{"traceEvents": []}'])
def test_a_report_on_no_trace_writes_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.json").write_bytes(content)
    assert_one_line_and_hint(run("task=report", "runs=t.json", cwd=tmp_path), tmp_path, "t.json")
    assert list((tmp_path / "reports").iterdir()) == []


def test_a_file_where_a_directory_should_be(tmp_path: Path) -> None:
    traces.write(tmp_path / "t.json", traces.document(traces.gpu_step()))
    (tmp_path / "file").write_text("precious")
    for setting in ("out=file", "reports=file"):
        assert_one_line_and_hint(run("task=report", "runs=t.json", setting, cwd=tmp_path), tmp_path, "is a file")
    assert (tmp_path / "file").read_text() == "precious"


def test_report_of_a_bare_trace_needs_no_torch(tmp_path: Path) -> None:
    traces.write(tmp_path / "t.json.gz", traces.document(traces.gpu_step()))
    code = (
        "import sys; sys.argv=['analyzer','task=report','runs=t.json.gz','out=r'];from analyzer import cli\n"
        "try: cli.main()\n"
        "except SystemExit as e: assert not e.code\n"
        "found={'torch','timm','pynvml','psutil'} & set(sys.modules); assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp_path / "r").iterdir()} == REPORT_FILES


def test_json_prints_the_summary_alone(tmp_path: Path) -> None:
    traces.write(tmp_path / "t.json.gz", traces.document(traces.gpu_step()))
    done = run("task=report", "runs=t.json.gz", "json=true", "out=r", cwd=tmp_path)
    printed = json.loads(done.stdout)
    assert printed == json.loads((tmp_path / "r" / "summary.json").read_text())
    assert printed["runs"][0]["kernel_count"]["value"] == 2


def test_a_sweep_with_json_prints_one_document_a_line_and_refuses_out(tmp_path: Path) -> None:
    for name in "ab":
        traces.write(tmp_path / f"{name}.json", traces.document(traces.gpu_step()))
    done = run("-m", "task=report", "runs=a.json,b.json", "json=true", cwd=tmp_path)
    assert [json.loads(line)["runs"][0]["name"] for line in done.stdout.splitlines()] == ["a", "b"]
    refused = run("-m", "task=report", "runs=a.json,b.json", "out=one", cwd=tmp_path)
    assert refused.returncode == 1
    assert "a sweep writes several" in refused.stderr
    assert not (tmp_path / "one").exists()


def test_out_never_replaces_what_is_not_a_report(tmp_path: Path) -> None:
    traces.write(tmp_path / "t.json", traces.document(traces.gpu_step()))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "summary.json").write_text("{}")
    (mine / "thesis.txt").write_text("precious")
    assert_one_line_and_hint(run("task=report", "runs=t.json", "out=mine", cwd=tmp_path), tmp_path, "other files")
    assert (mine / "thesis.txt").read_text() == "precious"
    for _ in range(2):
        assert run("task=report", "runs=t.json", "out=report", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("task", ["report", "tensorboard", "calibrate"])
def test_a_dry_run_writes_nothing(tmp_path: Path, task: str) -> None:
    trace = traces.write(tmp_path / "t.json", traces.document(traces.gpu_step()))
    given = [] if task == "calibrate" else [f"runs={trace.name}"]
    done = run(f"task={task}", "dry_run=true", *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("would ")
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]


def test_strict_ends_with_3_and_still_writes_the_report(tmp_path: Path) -> None:
    traces.write(tmp_path / "t.json.gz", traces.document(traces.gpu_step()))
    done = run("task=report", "runs=t.json.gz", "strict=true", "out=r", cwd=tmp_path)
    assert done.returncode == 3
    assert "strict=true: DRAM bytes" in done.stderr
    assert (tmp_path / "r" / "index.html").is_file()


def test_last_lines_name_verdict_report_and_next_command(tmp_path: Path) -> None:
    traces.write(tmp_path / "t.json.gz", traces.document(traces.gpu_step()))
    lines = run("task=report", "runs=t.json.gz", cwd=tmp_path).stdout.strip().splitlines()
    assert lines[0] == "t: a step takes 1.00 ms on NVIDIA H100 80GB HBM3 (float16), 300 µs of it GPU time"
    assert any(line.startswith("Not measured: ") for line in lines)
    assert any(line.startswith("Report: reports/") and "index.html" in line for line in lines)
    assert lines[-1].startswith("Next: ")


def test_two_reports_of_one_second_are_two_directories(tmp_path: Path) -> None:
    traces.write(tmp_path / "t.json.gz", traces.document(traces.gpu_step()))
    args = [sys.executable, "-m", "analyzer", "task=report", "runs=t.json.gz"]
    both = [subprocess.Popen(args, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [p.wait(timeout=120) for p in both] == [0, 0]
    assert len(list((tmp_path / "reports").glob("*/index.html"))) == 2


def test_a_sweep_goes_on_after_a_failure(tmp_path: Path) -> None:
    traces.write(tmp_path / "t.json.gz", traces.document(traces.gpu_step()))
    done = run("-m", "task=report", "runs=missing.json,t.json.gz", cwd=tmp_path)
    assert done.returncode == 1
    assert "no run or trace at missing.json" in done.stderr
    assert len(list((tmp_path / "reports").glob("*/index.html"))) == 1
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["reports", "t.json.gz"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_report_leaves_nothing(tmp_path: Path, how: signal.Signals) -> None:
    traces.write(tmp_path / "t.json", traces.document(traces.gpu_step()))
    # reading waits for ever: the moment of the interruption is certain
    slow = "import time; from analyzer.trace import reading; reading.read_blocks = lambda *_: iter(lambda: time.sleep(99), 0)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{slow}; from analyzer.__main__ import main; main()", "task=report", "runs=t.json"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("reports/.*.part")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(how)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "interrupted during: analyse" in stderr
    assert "Traceback" not in stderr
    assert list((tmp_path / "reports").iterdir()) == []


def test_an_annotation_is_taken_as_it_stands(tmp_path: Path) -> None:
    for name in ("Optimizer.step#SGD.step", "[param|x|0, y]", "it's", "3"):
        traces.write(tmp_path / "t.json", traces.document([traces.note(name, 0, 500), *traces.gpu_step()]))
        done = run("task=report", "runs=t.json", f"annotation={name}", "out=r", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert (
            f"annotation {name!r}, 1 occurrence"
            in json.loads((tmp_path / "r" / "summary.json").read_text())["runs"][0]["window"]
        )


def test_one_rank_of_many_files(tmp_path: Path) -> None:
    for rank in range(8):
        info = {"rank": rank, "world_size": 8}
        traces.write(tmp_path / f"r{rank}.json", traces.document(traces.gpu_step(), distributedInfo=info))
    done = run("task=report", "runs=r*.json", "rank=3", "out=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [r["name"] for r in json.loads((tmp_path / "r" / "summary.json").read_text())["runs"]] == ["r3"]
    assert "left out: r0.json is of rank 0, not 3" in done.stderr
    done = run("task=report", "runs=r*.json", "rank=11", cwd=tmp_path)
    assert (done.returncode, "not 11" in done.stderr) == (1, True)


@pytest.mark.parametrize("setting", ["steps=x", "steps=[1,-2]", "steps=5-3", "rank=-1", "max_expansion=0", "annotation=[]"])
def test_a_selection_that_cannot_be_meant(tmp_path: Path, setting: str) -> None:
    traces.write(tmp_path / "t.json", traces.document(traces.gpu_step()))
    done = run("task=report", "runs=t.json", setting, cwd=tmp_path)
    assert done.returncode == 1
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
