"""Finding ncu, judging its release, reading and joining raw pages."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ncu_stage import alive, install, wait_until

from analyzer.capture import permission
from analyzer.capture.ncu import locate, page, provider, supervise
from analyzer.capture.ncu.releases import SUPPORT, support_of, unsuited
from analyzer.capture.permission import Obstacle
from analyzer.capture.presets import resolve
from analyzer.errors import ConfigError, DeviceError, TraceError, UnsupportedError
from analyzer.hardware import counters
from analyzer.schema.settings import CaptureSettings


def look(root: Path, capability: str = "9.0", **environ: str) -> locate.Tool | Obstacle:
    given = {"PATH": str(root / "nowhere"), **environ}
    return locate.find(capability, given, root / "cuda" / "bin", root / "opt")


def test_ncu_is_found_on_path_in_cuda_home_in_cuda_and_in_opt(tmp_path: Path) -> None:
    found = look(tmp_path)
    assert isinstance(found, Obstacle)
    assert all(place in found.reason for place in ("PATH", "$CUDA_HOME/bin", str(tmp_path / "opt")))
    assert "nsight-compute" in found.hint
    for directory, environ in (
        (tmp_path / "opt" / "2024.3.2", {}),
        (tmp_path / "opt" / "2025.10.0", {}),  # newer than 2025.3, though not in the order of letters
        (tmp_path / "cuda" / "bin", {}),
        (tmp_path / "home" / "bin", {"CUDA_HOME": str(tmp_path / "home")}),
        (tmp_path / "path", {"PATH": str(tmp_path / "path"), "CUDA_HOME": str(tmp_path / "home")}),
    ):
        path = install(directory)
        assert look(tmp_path, **environ) == locate.Tool(path, (2025, 3, 1))
    install(tmp_path / "opt" / "2025.3.1")
    assert look(tmp_path / "x") != look(tmp_path)
    (tmp_path / "cuda" / "bin" / "ncu").unlink()
    assert look(tmp_path) == locate.Tool(tmp_path / "opt" / "2025.10.0" / "ncu", (2025, 3, 1))


def test_one_that_is_too_old_is_told_and_one_that_suits_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NCU", json.dumps({"version": "2022.2.1.0", "chips": "ga100, gv100"}))
    old = install(tmp_path / "cuda" / "bin")
    assert look(tmp_path) == Obstacle(
        "Nsight Compute 2022.2.1 is too old for compute capability 9.0",
        "install Nsight Compute 2022.3.0 or newer; it comes with the CUDA toolkit",
    )
    assert isinstance(look(tmp_path, "8.0"), locate.Tool)
    new = install(tmp_path / "opt" / "2025.3.1")
    new.write_text(new.read_text().replace("exec ", "unset FAKE_NCU; exec "))
    assert look(tmp_path) == locate.Tool(new, (2025, 3, 1))
    assert old.exists()


@pytest.mark.parametrize("text", ["", "#!/bin/sh\nexit 3\n", "#!/bin/sh\necho ncu for something else\n", "#!/no/such/shell\n"])
def test_a_program_that_tells_no_version_is_told(text: str, tmp_path: Path) -> None:
    path = tmp_path / "cuda" / "bin" / "ncu"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(0o755)
    found = look(tmp_path)
    assert isinstance(found, Obstacle)
    assert found.reason.startswith("ncu is there and does not tell its version")


def test_a_wrapper_that_hangs_is_ended_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, pids = tmp_path / "cuda" / "bin" / "ncu", tmp_path / "pids"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\nsleep 600 & echo $! >>{pids}\nsleep 600\n")
    path.chmod(0o755)
    monkeypatch.setattr(locate, "_PATIENCE_S", 1.0)
    found = look(tmp_path)
    assert isinstance(found, Obstacle)
    assert found.reason == "ncu is there and does not tell its version"
    wait_until(lambda: not alive([int(pid) for pid in pids.read_text().split()]))


def test_a_command_runs_under_a_keeper_that_leaves_nothing_behind(tmp_path: Path) -> None:
    out, err, pids = tmp_path / "out", tmp_path / "log", tmp_path / "pids"
    ended = supervise.run(["sh", "-c", f"sleep 600 & echo $! >{pids}; echo said; echo $LC_ALL >&2; exit 7"], out, err, 60.0)
    assert ended == supervise.Ended(status=7)
    assert (out.read_text(), err.read_text()) == ("said\n", "C\n")
    wait_until(lambda: not alive([int(pids.read_text())]))
    ended = supervise.run([str(tmp_path / "nowhere")], out, err, 60.0)
    assert ended.error == "No such file or directory"


def test_a_keeper_that_is_killed_takes_its_command_with_it(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    # the parent of the shell is the keeper
    ended = supervise.run(["sh", "-c", f"echo $$ >{pids}; kill -9 $PPID; sleep 600"], tmp_path / "out", tmp_path / "log", 60.0)
    assert ended == supervise.Ended()
    wait_until(lambda: not alive([int(pids.read_text())]))


def test_errors_of_ncu_are_found_in_long_output(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = ["==PROF== Profiling"] * 20_000
    lines[100] = "==ERROR== ERR_NVGPUCTRPERM - no"
    path.write_text("\n".join(lines))
    found = supervise.said(path, tmp_path / "nowhere")
    assert found.startswith("==ERROR== ERR_NVGPUCTRPERM - no\n")
    assert len(found) < 10_000


def test_releases_cover_what_counters_are_known_for() -> None:
    for capability in ("7.0", "7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "12.0"):
        support = support_of(capability)
        assert support is not None
        assert ".".join(map(str, support.capability)) == capability
        assert counters.groups(capability)
        assert support.source
    assert len({support.capability for support in SUPPORT}) == len(SUPPORT)
    assert support_of("12.1") == support_of("12.0")
    assert support_of("6.1") is None
    assert support_of("") is None


@pytest.mark.parametrize(
    ("capability", "version", "chips", "reason"),
    [
        ("9.0", (2022, 3, 0), "", None),
        ("9.0", (2022, 2, 9), "", "too old"),
        ("12.0", (2024, 3, 2), "", "too old"),
        ("12.1", (2024, 3, 2), "", "too old"),
        ("10.0", (2025, 1, 0), "", None),
        ("7.0", (2024, 3, 2), "", None),
        ("7.0", (2025, 3, 1), "", None),
        ("7.0", (2026, 1, 0), "", "too new"),
        ("8.7", (2021, 2, 2), "", "too old"),
        ("9.0", (2025, 3, 1), "ad102, gh100, tu102", None),
        ("9.0", (2025, 3, 1), "ad102, tu102", "does not know the chip"),
        ("9.0", (2025, 3, 1), "usage: something else", None),
        ("10.3", (2025, 3, 1), "ad102, gh100", None),  # how its chip is named is not known here
        ("6.1", (2025, 3, 1), "ad102", None),
    ],
)
def test_a_release_is_judged(capability: str, version: tuple[int, int, int], chips: str, reason: str | None) -> None:
    found = unsuited(capability, version, chips)
    assert (found is None) == (reason is None)
    if found is not None and reason is not None:
        assert reason in found.reason
        assert found.hint


HEAD = '"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device","CC"'


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_page_begins_at_its_header_and_needs_no_units(tmp_path: Path) -> None:
    row = '"0","7","p","h","k<1, 2>","1","7","(1, 1, 1)","(2, 1, 1)","0","9.0"'
    text = f'hello\n==PROF== Connected\n{HEAD},"a__b.sum","c__d.sum"\n{row},"1,234.5","n/a"\n==PROF== Disconnected\n'
    found = page.read_page(write(tmp_path / "a.csv", text))
    assert found.metrics == ("a__b.sum", "c__d.sum")
    assert found.column("a__b.sum") == [1234.5]
    assert found.counted() == {"a__b.sum"}
    assert found.column("e__f") == []


@pytest.mark.parametrize(
    "text", ["", "no table\n", f"{HEAD}\n", f'{HEAD}\n"0","7"\n', f'{HEAD},"ID"\n', '"ID","a__b"\n"",""\n']
)
def test_what_is_no_page_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="ncu"):
        page.read_page(write(tmp_path / "a.csv", text))


NAMES = st.lists(st.sampled_from([f"m__{letter}.sum" for letter in "abcdefgh"]), unique=True, min_size=1)
CELL = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=20)


@given(data=st.data())
def test_joined_pages_keep_every_figure(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    pages = []
    for _ in range(data.draw(st.integers(1, 3))):
        header = ("ID", "Process ID", "Process Name", "Host Name", "Kernel Name", *data.draw(NAMES))
        rows = data.draw(st.integers(1, 4))
        body = [(str(n), "9", "a process", "a host", *data.draw(st.tuples(*[CELL] * (len(header) - 4)))) for n in range(rows)]
        pages.append(page.Page(header, ("",) * len(header), tuple(body)))
    path = tmp_path_factory.mktemp("joined") / "counters.csv"
    page.write_joined(pages, path)
    found = page.read_page(path)
    assert "Host Name" not in found.header
    assert [entry.name for entry in path.parent.iterdir()] == ["counters.csv"]
    expected = [(number, one, row) for number, one in enumerate(pages, 1) for row in one.rows]
    assert len(found.rows) == len(expected)
    for cells, (number, one, row) in zip(found.rows, expected, strict=True):
        there = dict(zip(found.header, cells, strict=True))
        given = dict(zip(one.header, row, strict=True))
        assert there.pop("Process ID") == str(number)
        assert all(there[name] == given.get(name, "") for name in there)


def test_a_cpu_has_no_counters_and_says_so_when_they_are_demanded() -> None:
    resolved = resolve(CaptureSettings(device="cpu"))
    assert provider.prepare("auto", resolved) is None
    assert provider.prepare("none", resolved) is None
    with pytest.raises(UnsupportedError, match="counters=ncu needs an NVIDIA GPU, and cpu is none"):
        provider.prepare("ncu", resolved)
    with pytest.raises(ConfigError, match="counters=some is unknown"):
        resolve(CaptureSettings(device="cpu", counters="some"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> object:
    """A GPU of which nothing is there but its name."""
    import dataclasses

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(permission, "driver_state", lambda: None)
    return dataclasses.replace(resolve(CaptureSettings(device="cpu")), device=torch.device("cuda:0"), dtype="bfloat16")


def test_what_can_be_known_beforehand_is_told_beforehand(gpu: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = gpu
    tool = locate.Tool(tmp_path / "ncu", (2025, 3, 1))
    monkeypatch.setattr(locate, "find", lambda capability: tool)
    found = provider.prepare("auto", resolved)  # type: ignore[arg-type]
    assert found is not None
    assert found.ready
    assert found.groups == counters.groups("9.0", "bfloat16")
    assert found.capability == "9.0"
    asked_not = provider.prepare("none", resolved)  # type: ignore[arg-type]
    assert asked_not is not None
    assert asked_not.obstacle is not None
    assert "counters=none" in asked_not.obstacle.reason
    for patch, text in (
        ((locate, "find", lambda capability: Obstacle("ncu was not found", "install it")), "ncu was not found"),
        ((permission, "driver_state", lambda: Obstacle("administrators only", "ask them")), "administrators only"),
        ((torch.version, "hip", "6.4"), "NVIDIA GPUs only"),
        ((torch.cuda, "get_device_capability", lambda _: (6, 1)), "6.1"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(*patch)
            found = provider.prepare("auto", resolved)  # type: ignore[arg-type]
            assert found is not None
            assert not found.ready
            facts = provider.waiting(found)
            assert facts is not None
            assert not facts.available
            assert text in facts.reason
            assert facts.requested == ()
            with pytest.raises(DeviceError, match=re.escape(text)) as raised:
                provider.prepare("ncu", resolved)  # type: ignore[arg-type]
            assert raised.value.hint
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(locate, "find", lambda capability: Obstacle("ncu was not found", "install it"))
    monkeypatch.setattr(permission, "driver_state", lambda: Obstacle("administrators only", "ask them"))
    both = provider.prepare("auto", resolved)  # type: ignore[arg-type]
    assert both is not None
    assert both.obstacle == Obstacle("administrators only; ncu was not found", "ask them; install it")


def test_a_run_in_float32_asks_for_no_tensor_cores(gpu: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    tool = locate.Tool(tmp_path / "ncu", (2025, 3, 1))
    monkeypatch.setattr(locate, "find", lambda capability: tool)
    asked = {}
    for dtype in ("float32", "tf32", "bfloat16"):
        found = provider.prepare("auto", dataclasses.replace(gpu, dtype=dtype))  # type: ignore[type-var]
        assert found is not None
        asked[dtype] = found.groups
    assert asked["float32"] == counters.groups("9.0")
    assert asked["tf32"] == counters.groups("9.0", "tf32") != asked["bfloat16"]
    assert len(asked["tf32"]) == len(asked["float32"]) + 1
