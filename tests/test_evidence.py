"""The plan runner, with stand-ins for steps: order, limit, continuation after a kill, failures, and the plans by value."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks.evidence.__main__ import EXIT_WORDS, main, print_plan
from benchmarks.evidence.plan import CPU_PLAN, CUDA_PLAN, Step
from benchmarks.evidence.probe import Surroundings, missing_line, missing_packages
from benchmarks.evidence.runner import Limits, Work, environment_of, goes_on, has_failed, summary, unmet
from benchmarks.evidence.state import Outcome, State, StateError, read_state, write_state
from benchmarks.evidence.supervise import Ended
from benchmarks.evidence.words import WordError, read_flag, read_number, read_words

ROOT = Path(__file__).resolve().parent.parent
HERE = Surroundings("cpu", "a processor", 8_000_000_000)
NOTE = "import pathlib, sys; p = pathlib.Path(r'{out}') / 'notes'; p.open('a').write(sys.argv[1] + '\\n')"
"""A stand-in for a step: leaves a line behind."""


def step(name: str, code: str = NOTE, estimate_s: float = 0.1, **more: object) -> Step:
    return Step(name, "nothing", ("-c", code, name), estimate_s, f"runs/{name}", **more)  # type: ignore[arg-type]


def work_of(folder: Path, *plan: Step, total_s: float = 600.0, here: Surroundings = HERE) -> Work:
    folder.mkdir(exist_ok=True)
    state = read_state(folder) or State("cpu", HERE.name)
    return Work(plan, state, here, folder, Limits(total_s, 0.0, 1.0), [].append)


def said(found: Work) -> list[str]:
    return found.say.__self__  # type: ignore[attr-defined,no-any-return]


def call(folder: Path, *plan: Step, **more: object) -> Work:
    found = work_of(folder, *plan, **more)  # type: ignore[arg-type]
    found.work()
    return found


def notes(folder: Path) -> list[str]:
    path = folder / "notes"
    return path.read_text().split() if path.is_file() else []


class TestSteps:
    def test_each_is_taken_once_in_the_order_of_the_plan(self, tmp_path: Path) -> None:
        plan = step("a"), step("b"), step("c")
        first = call(tmp_path, *plan)
        again = call(tmp_path, *plan)
        assert notes(tmp_path) == ["a", "b", "c"]
        assert (first.ran, again.ran) == (["a", "b", "c"], [])
        assert {name: outcome.status for name, outcome in read_state(tmp_path).steps.items()} == dict.fromkeys("abc", "done")  # type: ignore[union-attr]
        assert goes_on(again) == []
        assert not has_failed(again)

    def test_only_chosen_ones_are_taken(self, tmp_path: Path) -> None:
        found = work_of(tmp_path, step("a"), step("b"))
        found.chosen = frozenset({"b"})
        found.work()
        assert notes(tmp_path) == ["b"]
        assert "a" not in found.state.steps

    def test_a_failure_is_tried_once_more_by_the_next_call_and_then_left_with_its_reason(self, tmp_path: Path) -> None:
        plan = step("a", f"{NOTE}; print('the reason'); sys.exit(1)"), step("b")
        tries = []
        for _ in range(3):
            found = call(tmp_path, *plan)
            tries.append((found.state.steps["a"].tries, goes_on(found)))
        assert tries == [(1, ["a"]), (2, []), (2, [])]
        assert notes(tmp_path) == ["a", "b", "a"]
        assert found.state.steps["a"].reason == "the reason"
        assert has_failed(found)
        assert "  a: failed (left): the reason" in summary(found)

    def test_a_failure_that_comes_right_is_no_failure(self, tmp_path: Path) -> None:
        code = f"{NOTE}; sys.exit(p.read_text().count('a') == 1)"
        plan = (step("a", code),)
        assert has_failed(call(tmp_path, *plan))
        assert not has_failed(call(tmp_path, *plan))

    def test_what_cannot_be_had_is_skipped_with_its_reason_and_asked_for_again(self, tmp_path: Path) -> None:
        plan = (step("a", f"{NOTE}; print('no permission'); sys.exit(3)"),)
        for _ in range(3):
            found = call(tmp_path, *plan)
        assert notes(tmp_path) == ["a", "a", "a"]
        assert (found.state.steps["a"].status, found.state.steps["a"].reason) == ("skipped", "no permission")
        assert not has_failed(found)

    def test_what_is_blocked_for_one_is_blocked_for_all_that_need_it(self, tmp_path: Path) -> None:
        blocked = step("a", f"{NOTE}; print('for administrators'); sys.exit(4)", needs=("ncu",))
        found = call(tmp_path, blocked, step("b", needs=("ncu",)), step("c", needs=("compiler",)))
        assert notes(tmp_path) == ["a", "c"]
        assert found.state.steps["b"] == Outcome("skipped", "for administrators")

    def test_needs_memory_and_other_steps(self, tmp_path: Path) -> None:
        here = replace(HERE, lacks={"compiler": "no Triton"})
        plan = step("a", needs=("compiler",)), step("b", memory_gb=9), step("c", after=("a",)), step("d", memory_gb=8)
        found = call(tmp_path, *plan, here=here)
        assert notes(tmp_path) == ["d"]
        assert found.state.steps["a"].reason == "no Triton"
        assert found.state.steps["b"].reason == "it takes about 9 GB of memory, 8.0 GB are free"
        assert said(found)[2] == "[ 3/4] c: not begun, it needs a"
        assert unmet(plan[0], Surroundings("cuda", why_not="no device"), {}) == "no device"

    def test_what_was_done_elsewhere_is_done_again_only_if_a_step_to_come_takes_it(self, tmp_path: Path) -> None:
        plan = step("a"), step("b"), step("c", after=("a",))
        write_state(State("cpu", HERE.name, 1, {"a": Outcome("done", tries=1), "b": Outcome("done", tries=1)}), tmp_path)
        call(tmp_path, *plan)
        assert notes(tmp_path) == ["a", "c"]
        call(tmp_path, *plan)
        assert notes(tmp_path) == ["a", "c"]

    def test_reasons_hold_no_path(self, tmp_path: Path) -> None:
        found = call(tmp_path, step("a", f"{NOTE}; sys.exit('cannot open {Path.home()}/secret/x and /opt/y')"))
        assert found.state.steps["a"].reason.startswith("cannot open ")
        assert "secret" not in found.state.steps["a"].reason
        assert "/opt" not in found.state.steps["a"].reason

    def test_steps_run_from_this_checkout_and_leave_homes_alone(self, tmp_path: Path) -> None:
        found = environment_of(tmp_path, {"PYTHONPATH": "/x", "A": "1"})
        assert found["PYTHONPATH"] == f"{ROOT}{os.pathsep}/x"
        assert (found["XDG_CACHE_HOME"], found["A"]) == (str(tmp_path / "cache"), "1")


STUBBORN = f"""
import signal, time
{NOTE}
def told(number, frame):
    p.open('a').write(signal.Signals(number).name + '\\n')
signal.signal(signal.SIGINT, told)
signal.signal(signal.SIGTERM, told)
p.open('a').write('ready\\n')
end = time.monotonic() + 300
while time.monotonic() < end:
    time.sleep(0.05)
"""


class TestLimit:
    def test_a_step_is_interrupted_then_terminated_then_killed(self, tmp_path: Path) -> None:
        found = call(tmp_path, step("a", STUBBORN), total_s=8.0)
        assert notes(tmp_path) == ["a", "ready", "SIGINT", "SIGTERM"]
        outcome = found.state.steps["a"]
        assert (outcome.status, outcome.pid) == ("interrupted", 0)
        assert outcome.reason.endswith("when its time was up")
        assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or ())]

    def test_what_does_not_fit_is_not_begun_and_something_cheaper_is(self, tmp_path: Path) -> None:
        plan = step("dear", estimate_s=1000), step("cheap", estimate_s=1)
        found = call(tmp_path, *plan, total_s=60)
        assert notes(tmp_path) == ["cheap"]
        assert "dear" not in found.state.steps
        assert goes_on(found) == ["dear"]
        assert not has_failed(found)
        assert summary(found)[0].startswith("2 steps: 1 not begun, 1 done; 0:0")

    def test_a_call_without_time_begins_nothing(self, tmp_path: Path) -> None:
        assert call(tmp_path, step("a"), total_s=0.0).ran == []

    def test_one_that_never_gets_through_is_left_after_two_calls(self, tmp_path: Path) -> None:
        plan = (step("a", "import time; time.sleep(300)"),)
        for _ in range(3):
            found = call(tmp_path, *plan, total_s=1.5)
        assert (found.state.steps["a"].tries, found.ran, goes_on(found)) == (2, [], [])

    @pytest.mark.parametrize(("ran", "limit_s", "tries"), [(["a"], 59, 0), (["a"], 60, 1), ([], 59, 1)])
    def test_one_that_had_little_time_left_is_not_counted_as_tried(
        self, tmp_path: Path, ran: list[str], limit_s: float, tries: int
    ) -> None:
        found, outcome = work_of(tmp_path), Outcome("running", tries=1)
        found.ran = ran
        found._judge(step("b", estimate_s=30), outcome, Ended(-2, limit_s, timed_out=True, last_line=""), limit_s)
        assert (outcome.status, outcome.tries) == ("interrupted", tries)


KILLED = """
import sys
from pathlib import Path
from tests.test_evidence import NOTE, call, step
slow = NOTE + "; import time; p.with_name('begun').write_text('x') if not p.with_name('begun').exists() else sys.exit(0); time.sleep(300)"
call(Path(sys.argv[1]), step("a"), step("b", slow), step("c"))
"""


class TestKill:
    def run(self, folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], cwd=ROOT, stderr=subprocess.DEVNULL)

    def test_a_kill_loses_the_running_step_alone_and_ends_it(self, tmp_path: Path) -> None:
        process = self.run(tmp_path)
        until((tmp_path / "begun").exists)
        state = read_state(tmp_path)
        assert state is not None
        assert {name: each.status for name, each in state.steps.items()} == {"a": "done", "b": "running"}
        child = psutil.Process(state.steps["b"].pid)
        process.kill()
        process.wait()
        until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
        assert self.run(tmp_path).wait() == 0
        assert notes(tmp_path) == ["a", "b", "b", "c"]
        state = read_state(tmp_path)
        assert state is not None
        assert {name: (each.status, each.tries) for name, each in state.steps.items()} == {
            "a": ("done", 1), "b": ("done", 2), "c": ("done", 1),
        }  # fmt: skip
        assert state.calls == 2

    def test_an_interruption_ends_the_step_and_is_not_its_fault(self, tmp_path: Path) -> None:
        process = self.run(tmp_path)
        until((tmp_path / "begun").exists)
        child = psutil.Process(read_state(tmp_path).steps["b"].pid)  # type: ignore[union-attr]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0
        assert not child.is_running()
        found = read_state(tmp_path)
        assert found is not None
        assert (found.steps["b"].status, found.steps["b"].tries, found.steps["b"].pid) == ("interrupted", 0, 0)

    def test_what_a_killed_call_left_is_ended_by_the_next(self, tmp_path: Path) -> None:
        left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
        from analyzer.capture.processes import birth

        state = State("cpu", HERE.name, 1, {"a": Outcome("running", tries=1, pid=left.pid, born=birth(left.pid))})
        write_state(state, tmp_path)
        call(tmp_path, step("a"))
        assert left.wait(60) == -signal.SIGKILL
        assert notes(tmp_path) == ["a"]

    def test_a_number_that_another_process_has_since_is_left_alone(self, tmp_path: Path) -> None:
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
        state = State("cpu", HERE.name, 1, {"a": Outcome("running", tries=1, pid=other.pid, born=-1.0)})
        write_state(state, tmp_path)
        found = work_of(tmp_path, step("b"))
        found.work()
        assert other.poll() is None
        assert found.state.steps["a"].status == "interrupted"
        other.kill()
        other.wait()


def until(holds: object) -> None:
    end = time.monotonic() + 60
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


class TestState:
    @pytest.mark.parametrize(
        "text", ["", "[]", "{", '{"format_version": 1}', '{"format_version": 7}', '{"format_version": 1, "steps": {"a": 1}}']
    )
    def test_a_damaged_or_foreign_one_is_not_overwritten(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "state.json").write_text(text)
        with pytest.raises(StateError, match="name another folder with out="):
            read_state(tmp_path)

    def test_there_is_none_at_first(self, tmp_path: Path) -> None:
        assert read_state(tmp_path) is None


class TestPlans:
    @pytest.mark.parametrize("plan", [CUDA_PLAN, CPU_PLAN], ids=["cuda", "cpu"])
    def test_names_are_unique_and_what_comes_after_stands_later(self, plan: tuple[Step, ...]) -> None:
        names = [each.name for each in plan]
        assert len(set(names)) == len(names)
        for number, each in enumerate(plan):
            assert set(each.after) <= set(names[:number])
            assert set(each.needs) <= {"ncu", "compiler"}
            assert each.estimate_s > 0

    def test_the_gpu_plan_has_the_order_of_the_issue(self) -> None:
        names = [each.name for each in CUDA_PLAN]
        order = [
            "doctor", "ceilings", "vit_base-224-b32-bfloat16", "convnext_base-224-b32-bfloat16",
            "vit_base-224-b32-bfloat16-counters", "convnext_base-224-b32-bfloat16-counters", "vit_base-224-b32-bfloat16-math",
            "vit_base-512-b32-bfloat16", "convnext_base-512-b32-bfloat16", "vit_base-1024-b32-bfloat16",
            "convnext_base-1024-b32-bfloat16", "calibration", "calibration-counters", "vit_base-224-b1-bfloat16",
            "convnext_base-224-b1-bfloat16", "vit_base-224-b32-bfloat16-compiled", "convnext_base-224-b32-bfloat16-compiled",
        ]  # fmt: skip
        assert names[: len(order)] == order
        assert names[-2:] == ["sampler-cost", "profiler-cost"]
        rest = "resnet50", "convnext_tiny", "swin_tiny", "samvit_base"
        assert [name for name in names[len(order) : -2] if name.endswith("-counters")] == [
            name for name in names if name.startswith(rest) and name.endswith("-counters")
        ]
        assert "attention=flash" in CUDA_PLAN[2].command

    def test_a_cpu_plan_needs_no_gpu(self) -> None:
        assert not [each.name for each in CPU_PLAN if "ncu" in each.needs]

    def test_the_dry_run_tells_times_needs_and_what_would_be_skipped(self) -> None:
        lines: list[str] = []
        here = Surroundings("cuda", "a GPU", 10_000_000_000, lacks={"ncu": "no Nsight Compute"})
        print_plan(CUDA_PLAN, here, frozenset(), lines.append)
        text = "\n".join(lines)
        assert text.count("would be skipped here: no Nsight Compute") == sum("ncu" in each.needs for each in CUDA_PLAN)
        assert "would be skipped here: it takes about 30 GB of memory, 10.0 GB are free" in text
        total = sum(each.estimate_s for each in CUDA_PLAN)
        assert f"{len(CUDA_PLAN)} steps, about {int(total // 60)}:{int(total % 60):02} minutes" in text
        assert "none of them was timed on a GPU" in text

    def test_a_device_that_is_not_here_is_told_once(self) -> None:
        lines: list[str] = []
        print_plan(CUDA_PLAN, Surroundings("cuda", why_not="no device cuda"), frozenset({"doctor"}), lines.append)
        assert lines[0].startswith("plan for cuda (no such device here)")
        assert [line for line in lines if "skipped" in line] == ["All of it would be skipped here: no device cuda"]


class TestCommandLine:
    def test_words(self) -> None:
        known = {"minutes": "9", "dry_run": "false"}
        assert read_words(["minutes=2.5"], known) == {"minutes": "2.5", "dry_run": "false"}
        assert read_number({"minutes": "2.5"}, "minutes") == 2.5
        assert read_flag({"dry_run": "True"}, "dry_run")
        for given, text in ((["minute=1"], "did you mean minutes=?"), (["9"], "known are"), (["minutes=1"] * 2, "twice")):
            with pytest.raises(WordError, match=text):
                read_words(given, known)
        for value in ("x", "-1", "nan", "inf"):
            with pytest.raises(WordError, match="is no number"):
                read_number({"minutes": value}, "minutes")
        with pytest.raises(WordError, match="neither"):
            read_flag({"dry_run": "1"}, "dry_run")

    @pytest.mark.parametrize(
        ("word", "text"), [("minutes=x", "minutes=x is no number"), ("device=tpu", "device=tpu is none of")]
    )
    def test_what_is_not_understood_is_told_in_one_line(self, word: str, text: str) -> None:
        lines: list[str] = []
        assert main([word], lines.append) == EXIT_WORDS
        assert len(lines) == 1
        assert text in lines[0]

    def test_help_names_every_word(self) -> None:
        lines: list[str] = []
        assert main(["--help"], lines.append) == 0
        assert all(f"{word}=" in lines[0] for word in ("minutes", "out", "device", "only", "dry_run"))

    def test_packages_that_are_missing_are_told_at_once(self) -> None:
        missing = missing_packages((("json", "json"), ("no_such_module", "its-package"), ("nor_this", "another")))
        assert missing == ["its-package", "another"]
        assert missing_line(missing).endswith("python3 -m pip install its-package another")

    def test_one_real_step_end_to_end(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.evidence", "minutes=5", "device=cpu", f"out={tmp_path}/out", "only=doctor"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        doctor = json.loads((tmp_path / "out" / "results" / "doctor.json").read_text())
        assert doctor["device"]["type"] == "cpu"
        assert doctor["checks"]
        assert "Bundle: out/bundle/evidence-1.tar.gz" in done.stdout
