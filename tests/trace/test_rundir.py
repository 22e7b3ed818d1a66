"""Run directories appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzer.errors import ConfigError, TraceError
from analyzer.trace.rundir import exact_directory, new_directory, open_run, read_facts, safe_name


def test_two_directories_of_one_name(tmp_path: Path) -> None:
    finals = []
    for _ in range(2):
        with new_directory(tmp_path, "run") as new:
            (new.path / "a").write_text("x")
        finals.append(new.final)
    assert [f.name for f in finals if f] == ["run", "run-2"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "run-2"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_nothing_is_left_after_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with new_directory(tmp_path, "run") as new:
            (new.path / "a").write_text("x")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_directory_should_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(ConfigError, match="is a file"), new_directory(file, "run"):
        pass
    with pytest.raises(ConfigError, match="is a file"), exact_directory(file, _ours):
        pass
    with pytest.raises(ConfigError, match="is a file"), new_directory(file / "below", "run"):
        pass
    assert file.read_text() == "x"


def _ours(directory: Path) -> bool:
    return {p.name for p in directory.iterdir()} == {"summary.json"}


def test_an_exact_directory_replaces_only_its_own_kind(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for content in ("1", "2"):
        with exact_directory(target, _ours) as new:
            (new.path / "summary.json").write_text(content)
    assert (target / "summary.json").read_text() == "2"
    with pytest.raises(KeyboardInterrupt), exact_directory(target, _ours) as new:
        raise KeyboardInterrupt
    assert (target / "summary.json").read_text() == "2"
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    (other / "summary.json").write_text("x")
    with pytest.raises(ConfigError, match="other files"), exact_directory(other, _ours):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "out"]


def test_names_need_no_quoting() -> None:
    assert safe_name("ViT=B/16, 224 px") == "vit-b-16-224-px"
    assert safe_name("..") == "run"


def test_opening_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no run or trace"):
        open_run(tmp_path / "nothing")
    with pytest.raises(TraceError, match="no run directory"):
        open_run(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": 1}', '{"format_version": "x"}'])
def test_damaged_run_json(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(TraceError, match="damaged"):
        read_facts(path)
