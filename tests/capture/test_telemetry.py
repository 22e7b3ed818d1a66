from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from fake_nvml import FakeNvml
from own_processes import children, kill, sole_child

from analyzer.capture import nvml, processes, sampler
from analyzer.capture.nvml import NvmlReader
from analyzer.capture.sampler import ProcessReader, sample_until, summary
from analyzer.capture.telemetry import sampled
from analyzer.schema.run import SourceFacts

NO_DRIVER = not Path("/proc/driver/nvidia").exists()


def test_samples_of_this_process(tmp_path: Path) -> None:
    with sampled(tmp_path, 0.02, False, None) as telemetry:
        time.sleep(0.5)
    frame = telemetry.frame()
    assert telemetry.facts is not None
    assert len(frame) == telemetry.facts.samples >= 2
    assert telemetry.facts.psutil.available
    assert not telemetry.facts.nvml.available
    assert telemetry.facts.nvml.reason
    assert frame["rss_bytes"].min() > 1 << 20
    assert frame["monotonic_ns"].is_monotonic_increasing
    assert frame["sm_clock_mhz"].isna().all()
    assert list(tmp_path.iterdir()) == []
    assert not children()


@pytest.mark.skipif(not NO_DRIVER, reason="a driver is here")
def test_without_a_driver_the_reason_is_named(tmp_path: Path) -> None:
    with sampled(tmp_path, 0.1, True, "GPU-0") as telemetry:
        pass
    assert telemetry.facts is not None
    assert "driver" in telemetry.facts.nvml.reason
    assert not telemetry.facts.gpm.available


@pytest.mark.parametrize("on_gpu", [True, False])
def test_without_the_package_of_nvml_psutil_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_gpu: bool) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "pynvml.py").write_text("raise ModuleNotFoundError('No module named pynvml')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "first"), prepend=os.pathsep)  # the sampler is a process of its own
    with sampled(tmp_path, 0.05, on_gpu, "GPU-0" if on_gpu else None) as telemetry:
        time.sleep(0.2)
    facts = telemetry.facts
    assert facts is not None
    assert facts.psutil.available
    assert facts.samples >= 1
    missing = SourceFacts(available=False, reason="nvidia-ml-py is not installed: pip install nvidia-ml-py")
    assert (facts.nvml, facts.gpm) == (missing, missing)


def test_without_the_package_of_nvml_nothing_asks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.gpm_failure("GPU-0") == nvml.NO_PACKAGE
    assert nvml.driver_version() is None
    assert nvml.power_limits(None) == {}


def test_a_lost_device_does_not_end_psutil() -> None:
    reader = NvmlReader(FakeNvml(failures={"nvmlDeviceGetClockInfo": (15, 5)}), "u")
    reader.open()
    out = io.StringIO()
    ticks = iter([False] * 5 + [True])
    process = ProcessReader(os.getpid())
    count = sample_until(lambda _: next(ticks), 0.0, process, reader, out)
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert count == len(rows) == 7
    assert "sm_clock_mhz" in rows[0]
    assert "sm_clock_mhz" not in rows[-1]
    assert "rss_bytes" in rows[-1]
    facts = summary(process, reader, "", count)
    assert "lost" in facts["nvml"]["reason"]
    assert facts["psutil"]["available"]


def test_a_sampler_that_dies_is_recorded(tmp_path: Path) -> None:
    with sampled(tmp_path, 0.05, False, None) as telemetry:
        kill(sole_child())
    assert telemetry.facts is not None
    assert "status -9" in telemetry.facts.psutil.reason
    assert not telemetry.facts.psutil.available


def test_a_sampler_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.stop, "__defaults__", (0.2,))
    with sampled(tmp_path, 0.05, False, None) as telemetry:
        child = sole_child()
        child.suspend()
    assert telemetry.facts is not None
    assert "killed" in telemetry.facts.psutil.reason
    assert not children()


def test_it_ignores_sigint_and_imports_no_torch(tmp_path: Path) -> None:
    with sampled(tmp_path, 0.05, False, None) as telemetry:
        child = sole_child()
        while not (tmp_path / "samples.raw.jsonl").exists():
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        time.sleep(0.1)
        assert child.is_running()
        assert not any("libtorch" in entry.path for entry in child.memory_maps())
    assert telemetry.facts is not None
    assert telemetry.facts.psutil.available


def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import time, psutil
        from pathlib import Path
        from analyzer.capture.telemetry import sampled
        with sampled(Path({str(tmp_path)!r}), 0.05, False, None):
            print(psutil.Process().children()[0].pid, flush=True)
            time.sleep(60)
        """
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(500):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.02)
    else:
        pytest.fail("the sampler outlived its parent by 10 s")


def test_a_process_that_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert sampler.ProcessReader(process.pid).reason == "NoSuchProcess"
