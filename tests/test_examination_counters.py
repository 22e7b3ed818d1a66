"""Hardware counters of a trace, as an examination sees them: beside it, given, of a run of our own, damaged, of something else."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from pathlib import Path

import pytest

from analyzer.errors import ConfigError
from analyzer.examination import examine
from analyzer.hardware import counters as named
from analyzer.insight.counter_support import WANTED, counting, has_quantity, metrics_for
from analyzer.schema.examination import Capability, Examination
from tests.report.synthetic import Fake, write_run
from tests.test_doctor_task import run, too_wide, trace
from tests.test_examination import capability, fractional, look
from tests.traces import cpu_step, kernel, launch

KERNELS = ("sm90_xmma_gemm_f16f16_tilesize128x128x64", "softmax_warp_forward<c10::Half>")
ALL = metrics_for("9.0")


def page(kernels: tuple[str, ...] = KERNELS, metrics: tuple[str, ...] = ALL) -> str:
    """Return a raw page of ncu with these kernels in their order."""
    out = io.StringIO()
    lines = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    head = ["ID", "Process ID", "Kernel Name", "Context", "Stream", "Block Size", "Grid Size", "Device", "CC"]
    lines.writerow([*head, *metrics])
    lines.writerow([*[""] * len(head), *["" for _ in metrics]])
    for number, name in enumerate(kernels):
        lines.writerow([number, 1, name, 1, 7, "(256, 1, 1)", "(132, 1, 1)", 0, "9.0", *["1,000"] * len(metrics)])
    return out.getvalue()


def beside(folder: Path, text: str, name: str = "trace.counters.csv") -> Examination:
    (folder / name).write_text(text, encoding="utf-8")
    return look(folder, fractional())


def found_of(e: Examination) -> Capability:
    return capability(e, "counters")


@pytest.mark.parametrize("name", ["trace.counters.csv", "counters.csv"])
def test_counters_beside_a_trace_are_matched(tmp_path: Path, name: str) -> None:
    e = beside(tmp_path, page(), name)
    found = found_of(e)
    assert (found.status, found.count, found.total) == ("yes", 2, 2)
    assert found.detail.startswith(f"{name}: 2 launches counted")
    assert found.detail.endswith("2 matched, for 100 % of kernel time")
    assert "hardware counters" not in dict(e.recording.missing)
    assert not e.recording.counting
    assert "counters=ncu" not in e.recording.command


def test_what_a_file_has_not_is_named(tmp_path: Path) -> None:
    found = found_of(beside(tmp_path, page(metrics=("gpu__time_duration.sum", "dram__bytes.sum", "lts__t_sectors.sum"))))
    assert found.status == "partly"
    assert found.consequence == "not in the file: bytes from L2, L2 hits, L1 hits, achieved occupancy, tensor-pipe use"


def test_counters_of_something_else_are_refused_with_the_reason(tmp_path: Path) -> None:
    e = beside(tmp_path, page(("some_other_kernel", "and_another")))
    found = found_of(e)
    assert (found.status, found.count, found.total) == ("partly", 0, 2)
    assert "not used: " in found.detail
    assert "95 %" in found.detail
    assert "modelled" in found.consequence
    assert e.recording.counting


@pytest.mark.parametrize(
    "text", ["", "\x00\x01\x02", "a,b\n1,2\n", page()[:60], '{"traceEvents": []}', "==ERROR== ERR_NVGPUCTRPERM\n"]
)
def test_a_damaged_file_is_told_and_is_no_error(tmp_path: Path, text: str) -> None:
    found = found_of(beside(tmp_path, text))
    assert found.status == "no"
    assert found.detail.startswith("a file of counters is there and cannot be read: ")
    given = tmp_path / "given.csv"
    given.write_text(text, encoding="utf-8")
    outcome = run(trace(tmp_path), counter_file=given)
    assert outcome.exit_code == 0
    assert any("cannot be read" in line for line in outcome.lines)
    assert not too_wide(outcome.lines)


def test_a_given_file_wins_over_the_one_beside(tmp_path: Path) -> None:
    (tmp_path / "trace.counters.csv").write_text("damaged")
    given = tmp_path / "mine.csv"
    given.write_text(page(), encoding="utf-8")
    path = trace(tmp_path, events=fractional())
    assert found_of(examine(path)).status == "no"
    assert found_of(examine(path, counters=given)).status == "yes"
    assert found_of(examine(path, counters=tmp_path / "absent.csv")).detail.startswith("a file of counters is there and cannot")


def test_counters_belong_to_one_trace(tmp_path: Path) -> None:
    given = tmp_path / "mine.csv"
    given.write_text(page(), encoding="utf-8")
    with pytest.raises(ConfigError, match="belongs to one trace"):
        run(trace(tmp_path), trace(tmp_path, "b.json"), counter_file=given)
    with pytest.raises(ConfigError, match="belongs to a trace"):
        run(counter_file=given)


def test_a_cpu_trace_has_no_use_for_counters(tmp_path: Path) -> None:
    (tmp_path / "trace.counters.csv").write_text(page(), encoding="utf-8")
    e = look(tmp_path, cpu_step(), deviceProperties=[])
    assert found_of(e).status == "unused"
    assert not e.recording.counting


def test_an_own_run_says_why_it_has_none(tmp_path: Path) -> None:
    own = write_run(tmp_path, Fake(device="cuda", command=("analyzer", "batch_size=32")))
    facts = json.loads((own / "run.json").read_bytes())
    facts["counters"] = {"available": False, "reason": "ncu was not found in PATH", "hint": "install it"}
    (own / "run.json").write_text(json.dumps(facts))
    e = examine(own)
    assert found_of(e).detail == "none: ncu was not found in PATH"
    assert dict(e.recording.missing)["hardware counters"].startswith("analyzer, counters=ncu")
    assert e.recording.command.split()[-1] == "counters=ncu"
    assert e.recording.counting.endswith(" > counters.csv")  # in the run directory


def test_ranges_of_an_old_trace_are_counters(tmp_path: Path) -> None:
    events = [
        *fractional(),
        {"ph": "X", "cat": "cuda_profiler_range", "name": "k", "pid": 0, "tid": 7, "ts": 350, "dur": 9, "args": {"x": 1.5}},
    ]
    found = found_of(look(tmp_path, events))
    assert (found.status, found.detail) == ("yes", "1 cuda_profiler_range events; their durations are no kernel times")


def test_the_commands_count_one_iteration_and_touch_no_clock() -> None:
    text = counting("9.0", "trace.counters.csv")
    assert "--profile-from-start off" in text
    assert "--cache-control none --clock-control none" in text
    assert "torch.cuda.profiler.start()" in text
    assert text.endswith(" > trace.counters.csv")
    assert max(map(len, text.split("\n"))) <= 96


@pytest.mark.parametrize("metrics", [metrics_for("9.0"), metrics_for("12.0"), metrics_for("8.7"), metrics_for(None)])
def test_a_shell_reads_the_list_of_metrics_as_one_word(metrics: tuple[str, ...]) -> None:
    from analyzer.insight.counter_support import _assigned

    script = "\n".join(f"    {line}" for line in _assigned(metrics)) + '\nprintf %s "$M"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert tuple(done.stdout.split(",")) == metrics


def test_the_metrics_are_those_of_the_chip() -> None:
    assert "dram__bytes_op_read.sum" in metrics_for("12.0")
    assert "dram__bytes_read.sum" in metrics_for("9.0")
    assert not [name for name in metrics_for("8.7") if name.startswith("dram__")]
    for chip in ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0"):
        there = metrics_for(chip)
        assert set(there) <= {n for group in named.groups(chip) for n in group} | set(named.launch_metrics())
        assert {q for q in WANTED if not has_quantity(q, there)} <= set(named.lacking(chip))


def test_a_name_that_a_shell_acts_on_stays_out_of_the_command(tmp_path: Path) -> None:
    e = look(tmp_path, fractional(), name="a$(reboot);b.json")
    assert "reboot" not in e.recording.counting
    assert e.recording.counting.endswith(" > counters.csv")


def test_several_traces_share_one_set_of_commands(tmp_path: Path) -> None:
    more = [*fractional(), launch(700, 55), kernel("late", 710, 5.5, 55)]
    outcome = run(trace(tmp_path, "a.json", fractional()), trace(tmp_path, "b.json", more))
    text = "\n".join(outcome.lines)
    assert text.count("ncu --import") == 1
    assert "With Nsight Compute for 1, 2 (" in text
    assert "> NAME.counters.csv" in text
    assert not too_wide(outcome.lines)
