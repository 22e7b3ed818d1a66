"""The calibration's kernels, how they are counted (with the stand-in of ncu), and what measuring costs."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from analyzer.capture.ncu import command, locate
from benchmarks.evidence import calibration, counted_cases
from benchmarks.evidence import counted_calibration as counted
from benchmarks.evidence.calibration import timed
from benchmarks.evidence.cases import ROW_BYTES, Case, Place, all_cases, sizes_around, times_read
from benchmarks.evidence.costs import compared, in_turns, main, median_interval, of_timings
from benchmarks.evidence.record import choice_of, settings_of
from benchmarks.evidence.words import WordError
from tests.capture.ncu_stage import set_up

CPU = torch.device("cpu")
CACHE, FREE = 1 << 20, 64_000_000
SMALL = Place(CPU, CACHE, FREE)
MIB = 1 << 20


class TestCases:
    def test_sizes_lie_around_the_cache_in_whole_rows(self) -> None:
        sizes = sizes_around(50 * MIB)
        assert len(sizes) == 20
        assert all(size % ROW_BYTES == 0 for size in sizes)
        assert sizes[0] == pytest.approx(0.3 * 50 * MIB, rel=0.01)
        assert sizes[-1] == pytest.approx(2.5 * 50 * MIB, rel=0.01)
        ratios = [b / a for a, b in itertools.pairwise(sizes)]
        assert all(ratio == pytest.approx((2.5 / 0.3) ** (1 / 19), rel=0.01) for ratio in ratios)

    def test_a_set_is_read_four_times_at_least(self) -> None:
        assert times_read(1 << 30, "cuda") == 4
        assert times_read(16 * MIB, "cuda") == 128
        assert times_read(1 * MIB, "cuda") == 512

    def test_each_says_what_it_reads_and_writes(self) -> None:
        found = {(case.experiment, case.name): case for case in all_cases(SMALL)}
        copy = found["copy", "4 MiB"]
        assert (copy.set_bytes, copy.read_bytes, copy.written_bytes) == (4 * MIB, 4 * MIB, 4 * MIB)
        kept = found["retention", "2 MB written"]
        rows = 2_000_000 // ROW_BYTES
        assert (kept.written_bytes, kept.read_bytes, kept.launches) == (rows * ROW_BYTES, 2 * MIB, ("write", "read others"))
        first = next(case for (name, _), case in found.items() if name == "reread")
        often = times_read(first.set_bytes, "cpu")
        assert (first.read_bytes, first.written_bytes) == (often * first.set_bytes, often * first.set_bytes // 8192)
        assert {name for name, _ in found} == {"reread", "retention", "copy"}
        assert all(4 * case.set_bytes <= FREE for case in found.values())

    def test_a_set_is_really_read_so_often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sums = []
        real = torch.sum
        monkeypatch.setattr(torch, "sum", lambda what, **more: sums.append(real(what, **more)) or sums[-1])
        case = next(iter(all_cases(SMALL)))
        for launch in case.counted:
            launch()
        often = times_read(case.set_bytes, "cpu")
        assert sums[0].shape == (often, case.set_bytes // ROW_BYTES)
        assert bool((sums[0] == ROW_BYTES / 4).all())

    def test_times_are_those_of_each_launch(self) -> None:
        case = next(case for case in all_cases(SMALL) if case.experiment == "retention")
        row = timed(case, CPU, 3)
        assert [kernel["launch"] for kernel in row["kernels"]] == ["write", "read others"]
        assert all(k["n"] == 3 and 0 < k["low_us"] <= k["median_us"] <= k["high_us"] for k in row["kernels"])

    def test_a_case_that_fails_does_not_cost_those_before_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def breaking(place: Place) -> Iterator[Case]:
            yield next(case for case in all_cases(place) if case.experiment == "copy")
            raise RuntimeError(f"no code for this GPU in {Path.home()}/x.cubin\nmore")

        monkeypatch.setattr(calibration, "all_cases", breaking)
        monkeypatch.setattr(counted_cases, "all_cases", breaking)
        monkeypatch.setattr(calibration, "place_of", lambda _: SMALL)
        assert calibration.main([f"out={tmp_path}", "device=cpu", "times=1"]) == 0
        told = json.loads((tmp_path / "results" / "calibration.json").read_text())
        assert [row["experiment"] for row in told["cases"]] == ["copy"]
        why = "RuntimeError: no code for this GPU in <path>"
        assert told["absent"] == {"raster": why, "what follows copy 4 MiB": why}
        found, reason = counted_cases.run(SMALL)
        assert ([case["launches"] for case in found], reason) == ([["copy"]], why)

        def at_once(_: Place) -> Iterator[Case]:
            raise RuntimeError("out of memory")

        monkeypatch.setattr(calibration, "all_cases", at_once)
        assert calibration.main([f"out={tmp_path}", "device=cpu"]) == 1
        assert capsys.readouterr().out.endswith("error: RuntimeError: out of memory\n")


class TestCounted:
    def test_the_program_takes_the_place_of_the_analyzers(self) -> None:
        tool = locate.Tool(Path("/x/ncu"), (2025, 3, 1))
        line = counted.counting_line(command.count(tool, ["dram__bytes.sum"], Path("/y/a.ncu-rep"), Path("/y/a.json")))
        assert line[-5:] == [sys.executable, "-P", "-m", "benchmarks.evidence.counted_cases", "/y/a.json"]
        assert line[:-5] == command.count(tool, ["dram__bytes.sum"], Path("/y/a.ncu-rep"), Path("/y/a.json"))[:-5]
        with pytest.raises(ValueError, match="another form"):
            counted.counting_line(["ncu", "program.py"])

    def test_groups_are_those_that_have_to_do_with_memory(self) -> None:
        groups = [("gpu__time_duration.sum", "dram__bytes.sum"), ("smsp__inst_executed.sum",), ("lts__t_sectors.sum",)]
        assert counted.memory_groups(groups) == [groups[0], groups[2]]

    def test_rows_meet_launches_in_their_order_or_not_at_all(self) -> None:
        cases = [{"name": "a", "launches": ["write", "read"]}, {"name": "b", "launches": ["copy"]}]
        rows = [{"dram": 1.0}, {"dram": 2.0}, {"dram": None}]
        found, why = counted.joined(cases, rows)
        assert why == ""
        assert [case["kernels"] for case in found] == [
            [{"launch": "write", "dram": 1.0}, {"launch": "read", "dram": 2.0}],
            [{"launch": "copy", "dram": None}],
        ]
        found, why = counted.joined(cases, rows[:2])
        assert why == "2 launches were counted, 3 are listed: none is matched"
        assert not any("kernels" in case for case in found)

    def test_a_group_is_counted_through_the_command_line_of_ncu(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        stage = set_up(tmp_path / "stage", monkeypatch)
        launches = sum(len(case.launches) for case in all_cases(SMALL))
        stage.play(kernels=launches)
        tool = locate.Tool(tmp_path / "stage" / "bin" / "ncu", (2025, 3, 1))
        found = counted.count_group(tool, ("dram__bytes.sum",), "cpu", tmp_path, 1, (CACHE, FREE))
        assert found["reason"] == ""
        assert sum(len(case["kernels"]) for case in found["cases"]) == launches
        assert found["cases"][0]["kernels"][0]["dram__bytes.sum"] == 100 + len("dram__bytes.sum")  # what the stand-in makes up
        assert "host" not in json.dumps(found).lower()

    def test_why_nothing_came_back_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        stage = set_up(tmp_path / "stage", monkeypatch)
        stage.play("strange")
        tool = locate.Tool(tmp_path / "stage" / "bin" / "ncu", (2025, 3, 1))
        found = counted.count_group(tool, ("dram__bytes.sum",), "cpu", tmp_path, 1, (CACHE, FREE))
        assert found["reason"].startswith("Nsight Compute: ==ERROR== The moon is in the way")
        assert "cases" not in found


class TestCosts:
    def test_the_interval_of_a_median_is_that_of_order_statistics(self) -> None:
        assert median_interval([3, 1, 2, 6, 5, 4]) == (1, 6, 1 - 2 / 64)
        assert median_interval(range(1, 11)) == (2, 9, 1 - 2 * 11 / 1024)  # 1 + 10 of 1024 outside on either side
        assert median_interval([1.0, 2.0]) == (1.0, 2.0, 0.5)

    def test_ratios_are_those_of_pairs(self) -> None:
        found = compared([2.0, 3.0, 8.0], [1.0, 2.0, 2.0])
        assert (found["ratio"], found["low"], found["high"], found["n"]) == (2.0, 1.5, 4.0, 3)
        assert found["coverage_pct"] == 75.0

    def test_a_drift_hits_both_alike(self) -> None:
        order: list[bool] = []

        def block(with_it: bool) -> float:
            order.append(with_it)
            return float(len(order))

        on, off = in_turns(block, 4)
        assert order == [True, False, False, True] * 2
        assert sum(on) == sum(off) == 18

    def test_the_profilers_cost_is_traced_over_untraced_of_one_process(self, tmp_path: Path) -> None:
        path = tmp_path / "runs" / "a" / "timings.csv"
        path.parent.mkdir(parents=True)
        rows = [
            "untraced,0,0,1,10",
            "untraced,0,1,1,12",
            "untraced,1,0,1,99",
            "traced,0,0,1,22",
            "traced,0,1,1,11",
            "warmup,0,0,1,50",
        ]
        path.write_text("\n".join(["pass,repeat,iteration,start_unix_ns,latency_ms", *rows]))
        assert of_timings(path) == {"ratio": 1.5, "low": 1.0, "high": 2.0, "n": 2, "untraced_ms": 11.0}
        assert main(["profiler", f"out={tmp_path}", "device=cpu"]) == 0
        written = json.loads((tmp_path / "results" / "profiler-cost.json").read_text())
        assert written["runs"]["a"]["ratio"] == 1.5
        path.write_text("pass,repeat,iteration,start_unix_ns,latency_ms\n")
        assert main(["profiler", f"out={tmp_path}", "device=cpu"]) == 1

    def test_a_name_that_is_none_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["sampler", "pair=2"]) == 1
        assert "did you mean pairs=?" in capsys.readouterr().out
        assert main(["other"]) == 1


class TestRecord:
    def test_a_run_records_the_command_that_records_it_again(self) -> None:
        from analyzer.insight.reproduction import is_own

        values = {
            "device": "cuda", "model": "vit_base_patch16_224", "family": "vit", "image_size": "512", "batch_size": "32",
            "dtype": "bfloat16", "attention": "flash", "compile": "off", "repeats": "2",
        }  # fmt: skip
        found = settings_of(values, Path("making"))
        assert found.command == (
            "analyzer", "device=cuda", "model=vit_base_patch16_224", "batch_size=32", "image_size=512", "dtype=bfloat16",
            "attention=flash", "repeats=2", "traced_steps=3",
        )  # fmt: skip
        assert is_own(found.command)
        assert choice_of(values).label == "ViT-B/16"
        with pytest.raises(WordError, match="no file in conf/cnn"):
            choice_of(values | {"family": "cnn"})

    def test_every_model_of_the_plans_has_its_file(self) -> None:
        from benchmarks.evidence.plan import CPU_PLAN, CUDA_PLAN

        words = [dict(w.partition("=")[::2] for w in step.command if "=" in w) for step in (*CUDA_PLAN, *CPU_PLAN)]
        assert all(choice_of(each).name for each in words if "model" in each)
