"""Groups of counters apart: names that ncu does not know, one that fails while others do not, and limits."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from ncu_stage import ANCHORS, GROUPS, Stage, nothing_is_left, rows, set_up

from analyzer.capture.ncu import failure, page
from analyzer.hardware import counters
from analyzer.trace.rundir import COUNTERS_FILE


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return set_up(tmp_path, monkeypatch)


def test_names_that_ncu_drops_in_silence_are_told(stage: Stage) -> None:
    stage.play("drops", drop=["lts__t_sectors.sum", "launch__grid_size"], stub=True)
    result = stage.count()
    assert result.facts.available
    assert result.facts.missing == ("lts__t_sectors.sum", "launch__grid_size")
    assert result.warnings == ["counters: Nsight Compute 2025.3.1 gave no lts__t_sectors.sum, launch__grid_size"]


def test_names_that_ncu_refuses_are_left_out_and_told(stage: Stage) -> None:
    drop = ["lts__t_sectors.sum", "launch__grid_size", "sm__ops_path_tensor_src_bf16_dst_fp32.sum"]
    stage.play("unknown", drop=drop, stub=True)
    result = stage.count(stage.prepared(GROUPS))
    assert result.facts.available
    assert not result.blocked
    assert result.facts.passes == 2
    launch = set(counters.launch_metrics())
    assert set(result.facts.missing) - launch == set(drop) - launch
    # of those that describe a launch none is asked for once one is refused; what the page has all the same is not missing
    assert "launch__grid_size" in result.facts.missing
    assert "launch__registers_per_thread" not in result.facts.missing
    tries = [call["arguments"] for call in stage.calls() if "--import" not in call["arguments"]]
    # both names of the first group cost a try each; the others know them; the last has nothing left after one
    assert len(tries) == 3 + 1 + 1
    units, *found = rows(stage.run / COUNTERS_FILE)
    assert units["dram__bytes.sum"] == "byte"
    assert {row["Process ID"] for row in found} == {"1", "2"}
    assert result.warnings[0].startswith("counters: group 3 of 3 failed: ncu knows none of its counters")


def test_a_name_that_nobody_asked_for_is_no_reason_to_try_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.play("unknown", drop=["dram__bytes.sum"], stub=True)
    monkeypatch.setattr(failure, "_UNKNOWN", re.compile("(never)"))
    result = stage.count()
    assert result.facts.passes == 1
    assert "(Failed to find metric regex:^dram__bytes" in result.facts.reason
    assert len([call for call in stage.calls() if "--metrics" in call["arguments"]]) == 2


def test_names_that_a_trial_has_refused_are_not_asked_for(stage: Stage) -> None:
    stage.play("unknown", drop=["lts__t_sectors.sum"], stub=True)
    known = dataclasses.replace(stage.prepared(), unknown=frozenset(("lts__t_sectors.sum",)))
    result = stage.count(known)
    assert result.facts.missing == ("lts__t_sectors.sum",)
    assert len([call for call in stage.calls() if "--metrics" in call["arguments"]]) == 2


def test_a_failure_of_one_group_lets_the_others_run(stage: Stage) -> None:
    for scenario in ("strange", "import_dies", "garbage"):
        stage.play(scenario, group=1, stub=True)
        result = stage.count(stage.prepared(GROUPS))
        assert result.facts.available
        assert result.facts.passes == 2
        assert set(result.facts.missing) == set(GROUPS[0]) - set(ANCHORS)
        (stage.run / COUNTERS_FILE).unlink()


def test_the_same_failure_twice_ends_the_pass(stage: Stage) -> None:
    stage.play("strange", stub=True)
    assert not stage.count(stage.prepared(GROUPS)).facts.available
    assert len(stage.calls()) == 2


def test_all_passes_of_a_model_have_one_limit(stage: Stage) -> None:
    stage.play(stub=True)
    job = dataclasses.replace(stage.job(), total_s=-1.0)
    result = stage.count(job=job)
    assert result.facts.reason == "the passes of one model took more than -1 s"
    assert "end what else uses ncu" in result.facts.hint
    assert stage.calls() == []
    nothing_is_left(stage)


def test_the_end_of_a_failed_log_is_in_the_warnings_without_paths(stage: Stage) -> None:
    stage.play("strange", stub=True)
    (first, *_) = stage.count().warnings
    assert "; it said: ==ERROR== The moon is in the way of " in first
    assert f"{Path.home()}/" not in first


def test_a_group_without_any_of_its_counters_fails_and_the_others_are_kept(stage: Stage) -> None:
    stage.play("absent", group=1, stub=True)
    result = stage.count(stage.prepared(GROUPS))
    assert result.facts.available
    assert result.facts.passes == 2
    assert set(result.facts.missing) == {"dram__bytes.sum", "lts__t_sectors.sum"}
    assert (
        result.warnings[0]
        == "counters: group 1 of 3 failed: none of its counters came back: dram__bytes.sum, lts__t_sectors.sum"
    )
    assert {row["Process ID"] for row in rows(stage.run / COUNTERS_FILE)[1:]} == {"1", "2"}


def test_without_a_counter_in_any_group_there_is_no_file(stage: Stage) -> None:
    stage.play("absent", stub=True)
    result = stage.count()
    assert not result.facts.available
    assert result.facts.reason.startswith("none of its counters came back")
    nothing_is_left(stage)


def test_repeated_kernels_are_told_where_figures_depend_on_caches(stage: Stage) -> None:
    stage.play(passes=3, stub=True)
    result = stage.count(stage.prepared((GROUPS[0], GROUPS[2])))  # the last counts operations: repeating changes nothing
    assert result.warnings == ["counters: group 1 took up to 3 passes a kernel: its caches were not as in the run"]


def test_groups_that_saw_different_kernels_are_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.play(stub=True)
    whole = page.read_page

    def shorter(path: Path) -> page.Page:
        found = whole(path)
        return page.Page(found.header, found.units, found.rows[:-1]) if "group-2" in path.name else found

    monkeypatch.setattr(page, "read_page", shorter)
    assert stage.count().warnings == ["counters: the groups saw different numbers of kernels (4, 3)"]


def test_a_group_that_fails_later_keeps_the_earlier_ones(stage: Stage) -> None:
    stage.play("disk_full", group=2, stub=True)
    result = stage.count(stage.prepared(GROUPS))
    assert result.facts.available
    assert result.facts.passes == 1
    assert set(result.facts.missing) == {*GROUPS[1], *GROUPS[2]} - set(ANCHORS)
    assert "the disk is full" in result.facts.reason
    assert result.warnings[0].startswith("counters: group 2 of 3 failed: ")
    found = rows(stage.run / COUNTERS_FILE)[1:]
    assert {row["Process ID"] for row in found} == {"1"}
    # the third was not tried: it would have met the same
    assert len([call for call in stage.calls() if "--metrics" in call.get("arguments", ())]) == 2
