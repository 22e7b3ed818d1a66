"""What would cost a call on a borrowed GPU: a step that hangs, one that cannot be killed, a kill while packing, a silent probe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.evidence import __main__ as program
from benchmarks.evidence import bundle, runner, supervise
from benchmarks.evidence.identity import names_here
from benchmarks.evidence.plan import CUDA_PLAN
from benchmarks.evidence.probe import PACKAGES, Surroundings, ask
from benchmarks.evidence.state import Outcome
from benchmarks.evidence.supervise import Ended
from tests.test_evidence import call, notes, step, work_of

H100 = Surroundings("cuda", "NVIDIA H100 80GB HBM3", versions={"system": "Linux 6.1.0-mwinter x86_64"})
SLEEP = "import time; time.sleep(300)"


class TestHang:
    def test_a_first_try_leaves_time_for_the_steps_after_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runner, "FIRST_TRY_LEAST_S", 1.0)
        found = call(tmp_path, step("hangs", SLEEP), step("b"), total_s=60.0)
        assert notes(tmp_path) == ["b"]
        assert (found.state.steps["hangs"].status, found.state.steps["hangs"].tries) == ("interrupted", 1)

    @pytest.mark.parametrize(
        ("tries", "estimate_s", "limit_s"), [(0, 10, 180.0), (0, 40, 200.0), (0, 400, 500.0), (1, 10, 500.0)]
    )
    def test_the_limit_of_a_try(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: int, estimate_s: float, limit_s: float
    ) -> None:
        limits: list[float] = []

        def run(_command: object, _log: object, limit: float, *_: object) -> Ended:
            limits.append(limit)
            return Ended(0, 1.0, timed_out=False, last_line="")

        monkeypatch.setattr(supervise, "run", run)
        monkeypatch.setattr(runner.Work, "left_s", lambda _: 500.0)
        found = work_of(tmp_path)
        found.state.steps["a"] = Outcome("failed", tries=tries)
        found._take(step("a", estimate_s=estimate_s), 1)
        assert limits == [limit_s]

    def test_what_outlives_a_kill_is_not_waited_for_and_ends_the_call(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(supervise, "_signal", lambda *_: None)  # as inside a driver: no signal reaches it
        left: list[subprocess.Popen[bytes]] = []
        real = subprocess.Popen

        def started(*words: object, **more: object) -> subprocess.Popen[bytes]:
            left.append(real(*words, **more))  # type: ignore[call-overload]
            return left[-1]

        monkeypatch.setattr("benchmarks.evidence.supervise.subprocess.Popen", started)
        monkeypatch.setattr(runner, "FIRST_TRY_LEAST_S", 0.5)
        found = call(tmp_path, step("hangs", SLEEP), step("b"), total_s=60.0)
        assert notes(tmp_path) == []
        assert found.stuck == "hangs"
        assert found.state.steps["hangs"].status == "interrupted"
        assert "b" not in found.state.steps
        left[0].kill()
        left[0].wait()


class TestProbe:
    def test_why_torch_could_not_be_asked_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        said = "Traceback\n  File x\nAttributeError: module 'torch' has no attribute 'something' in /opt/python/torch"
        done = SimpleNamespace(stdout="", stderr=f"{said}\n", returncode=1)
        monkeypatch.setattr("benchmarks.evidence.probe.subprocess.run", lambda *_, **__: done)
        assert ask("cuda").why_not == (
            "torch could not be asked for the device: AttributeError: module 'torch' has no attribute 'something' in <path>"
        )

    def test_what_timm_imports_is_among_what_is_needed(self) -> None:
        code = "import sys, timm; print('torchvision' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert ("torchvision", "torchvision") in PACKAGES or "True" not in done.stdout + done.stderr


class TestPublicNames:
    @pytest.mark.parametrize(
        ("host", "user", "environment"),
        [
            ("h100", "someone", {}),
            ("box-17", "someone", {"device": "cuda"}),  # make gpu-evidence device=cuda
            ("box-17", "someone", {"ATTENTION": "flash"}),
        ],
    )
    def test_what_stands_in_every_run_does_not_keep_the_runs_here(
        self, host: str, user: str, environment: dict[str, str]
    ) -> None:
        run = b'{"device": {"name": "NVIDIA H100 80GB HBM3"}, "command": ["analyzer", "device=cuda", "attention=flash"]}'
        names = names_here(host, user, "/home/someone", environment)
        assert names.found(run)
        assert names.without(program._public(CUDA_PLAN, H100)).found(run) == []

    def test_all_else_is_still_looked_for(self) -> None:
        environment = {"device": "cuda", "HF_TOKEN": "hf_Qx81ZpLr93"}
        names = names_here("box-17", "mwinter", "/home/mwinter", environment, ("/scratch/x",)).without(
            program._public(CUDA_PLAN, H100)
        )
        for text in (b"box-17", b"mwinter", b"/home/mwinter/x", b"hf_Qx81ZpLr93", b"/scratch/x/y"):
            assert names.found(text), text


class TestBundleIsWhole:
    def test_a_kill_while_packing_leaves_the_older_bundle(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "state.json").write_text("{}")
        names = names_here("no-such-host", "nobody-here", "/no/such/home", {})
        (kept,) = bundle.pack(tmp_path, [], names, {}).archives
        before = kept.read_bytes()

        def killed(*_: object) -> None:
            raise SystemExit

        monkeypatch.setattr(bundle, "_write", killed)
        with pytest.raises(SystemExit):
            bundle.pack(tmp_path, [], names, {})
        assert kept.read_bytes() == before
        monkeypatch.undo()
        bundle.pack(tmp_path, [], names, {})
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "state.json"]
