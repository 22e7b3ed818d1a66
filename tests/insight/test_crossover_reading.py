"""Points from files: sweep directories, records, run directories, and what is gone, damaged or hostile among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from analyzer.errors import TraceError
from analyzer.insight.crossover.reading import read_points
from analyzer.schema.sweep import PointRecord
from analyzer.trace.rundir import read_facts
from tests.report.crossover_points import record, setting
from tests.report.synthetic import Fake, write_run


def store(root: Path, made: PointRecord) -> Path:
    file = root / "points" / f"{made.key}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(msgspec.json.encode(made))
    return file


def sweep(root: Path, jobs: list[list[str]], keys: dict[int, list[str]], **more: Any) -> Path:
    folder = root / "sweeps" / "one"
    (folder / "jobs").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"format_version": 1, "name": "one", "jobs": jobs} | more))
    for number, found in keys.items():
        (folder / "jobs" / f"{number}.json").write_text(json.dumps({"keys": found}))
    return folder


def test_a_sweep_directory(tmp_path: Path) -> None:
    run = write_run(tmp_path, Fake())
    ran, lost = record(setting(), run=run.name), record(setting("cnn"), "out_of_memory", reason="no room")
    store(tmp_path, ran)
    store(tmp_path, lost)
    folder = sweep(tmp_path, [["a=1"], ["a=2"], ["a=3"]], {0: [ran.key, lost.key], 1: ["f" * 64]}, price=2.5)
    found = read_points([folder])
    assert [(s.record.status, s.run, s.problem) for s in found.sources] == [("measured", run, ""), ("out_of_memory", None, "")]
    assert found.missing == ("a=2", "a=3")
    assert (found.name, found.price) == ("one", 2.5)


def test_records_and_runs_come_once(tmp_path: Path) -> None:
    run = write_run(tmp_path, Fake())
    file = store(tmp_path, record(setting(), run=run.name))
    found = read_points([file, file.parent, run, run])
    (only,) = found.sources
    assert only.run == run
    assert only.record.key == file.stem
    (alone,) = read_points([run, run]).sources
    facts = read_facts(run / "run.json")
    assert alone.record.setting.batch_size == facts.settings.batch_size
    assert alone.record.setting.dtype == facts.settings.dtype
    assert (alone.record.run, alone.run) == (facts.name, run)


@pytest.mark.parametrize("name", ["../secret", "/etc", "..", ".", "a/b", ""])
def test_a_record_leads_nowhere_but_beside_it(tmp_path: Path, name: str) -> None:
    made = record(setting(), run=name or None)
    found = read_points([store(tmp_path, made)])
    assert found.sources[0].run is None
    assert found.sources[0].problem == "the record names no run directory"


def test_a_run_that_is_gone(tmp_path: Path) -> None:
    found = read_points([store(tmp_path, record(setting()))])
    assert found.sources[0].problem == "the run directory is gone"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 1}', "\xff\xfe", '{"format_version": 99}', "[" * 100_000])
def test_a_damaged_record_is_missing_and_not_fatal(tmp_path: Path, text: str) -> None:
    good = store(tmp_path, record(setting("cnn"), "failed"))
    bad = good.parent / "bad.json"
    bad.write_text(text, encoding="latin-1")
    found = read_points([bad, good])
    assert len(found.sources) == 1
    assert found.missing[0].startswith("record bad.json cannot be read: ")


def test_a_newer_record_is_missing(tmp_path: Path) -> None:
    made = record(setting(), "failed", format_version=99)
    assert "newer version" in read_points([store(tmp_path, made)]).missing[0]


def test_a_damaged_run_is_missing(tmp_path: Path) -> None:
    run = write_run(tmp_path, Fake())
    (run / "run.json").write_text("{")
    assert read_points([run]).missing[0].startswith(f"run {run.name} cannot be read: ")


def test_what_is_no_point_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="holds no points"):
        read_points([tmp_path])
    with pytest.raises(TraceError, match="holds no points"):
        read_points([tmp_path / "nothing"])
    folder = sweep(tmp_path, [], {})
    (folder / "manifest.json").write_text("{")
    with pytest.raises(TraceError, match="damaged"):
        read_points([folder])


def test_the_same_point_in_two_places_comes_twice_in_either_order(tmp_path: Path) -> None:
    files = []
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        files.append(store(tmp_path / name, record(setting(), "failed", reason=name)))
    assert files[0].name == files[1].name
    for order in (files, files[::-1], [*files, files[0]]):
        assert sorted(s.record.reason for s in read_points(order).sources) == ["new", "old"]


def test_a_key_in_a_job_leads_nowhere_else(tmp_path: Path) -> None:
    store(tmp_path, record(setting(), "failed"))
    (tmp_path / "outside.json").write_text("{}")
    folder = sweep(tmp_path, [["a=1"]], {0: ["../outside"]})
    found = read_points([folder])
    assert (found.sources, found.missing) == ((), ("a=1",))
