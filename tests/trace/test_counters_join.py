"""Counted launches find their launch in the trace: known orders are recovered, wrong ones refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzer.schema.counters import REFUSED_BELOW_PCT
from analyzer.trace.counters import CounterFile, Joined, join, read_counter_file
from analyzer.trace.counters.file import ROW_COLUMNS
from analyzer.trace.kineto import read_trace
from analyzer.trace.link import link
from tests.trace.counter_files import Row, counted, raw_page, write

BYTES, TIME = "dram__bytes.sum", "gpu__time_duration.sum"
KERNELS = [("gemm<4>", 900), ("softmax<float>", 300), ("layer_norm", 200), ("gelu", 150), ("copy", 50)]
SLOW = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def launches_of(sequence: list[int], steps: list[int] | None = None) -> pd.DataFrame:
    """Return launches of KERNELS by number, one after the other, each launched 5 us before it runs."""
    start = np.cumsum([0, *(KERNELS[k][1] + 10 for k in sequence)])[:-1]
    return pd.DataFrame(
        {
            "category": ["kernel"] * len(sequence),
            "kernel": [KERNELS[k][0] for k in sequence],
            "grid": [f"{k + 1},2,1" for k in sequence],
            "block": ["256,1,1"] * len(sequence),
            "launch_ns": start,
            "start_ns": start + 5_000,
            "dur_ns": [KERNELS[k][1] for k in sequence],
            "step": steps if steps is not None else [-1] * len(sequence),
            "device": [0] * len(sequence),
        }
    )


def file_of(rows: list[Row]) -> CounterFile:
    """Return rows as the reader gives them, sorted as it sorts them."""
    metrics = list(dict.fromkeys(name for row in rows for name in row.values))
    table = pd.DataFrame(
        [
            {
                **dict(zip(ROW_COLUMNS, (r.id, str(r.process), r.device, r.kernel, r.grid, r.block, ""), strict=True)),
                **{metric: float(r.values.get(metric, np.nan)) for metric in metrics},
            }
            for r in rows
        ]
    )
    first = {process: n for n, process in enumerate(dict.fromkeys(table["process"]))}
    table = table.sort_values(
        ["process", "device", "id"], key=lambda c: c.map(first) if c.name == "process" else c, kind="stable"
    )
    return CounterFile("c.csv", "import", table.reset_index(drop=True), tuple(metrics))


def recovered(found: Joined) -> list[float]:
    return found.values[BYTES].tolist()


def heaviest(a: list[int], b: list[int]) -> int:
    best = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            best[i + 1][j + 1] = max(best[i][j + 1], best[i + 1][j], best[i][j] + (KERNELS[x][1] if x == y else 0))
    return best[-1][-1]


def test_all_launches_are_found_and_say_which_they_are() -> None:
    launches = launches_of([0, 1, 2, 0, 1, 3, 0, 4])
    found = join(file_of(counted(launches)), launches)
    assert recovered(found) == list(range(8))
    assert (found.used, found.matched_pct, found.refused, found.notes) == (8, 100.0, "", ())
    assert found.matching == "whole names, grid and block, in the order of their launches, against the whole trace"


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.randoms(use_true_random=False))
@SLOW
def test_shuffled_lines_are_recovered_exactly(tmp_path: Path, sequence: list[int], random) -> None:  # type: ignore[no-untyped-def]
    launches = launches_of(sequence)
    rows = counted(launches)
    random.shuffle(rows)
    found = join(read_counter_file(write(tmp_path / "c.csv", raw_page(rows))), launches)
    assert recovered(found) == list(range(len(sequence)))
    assert found.matched_pct == 100.0


@given(st.lists(st.integers(0, 4), min_size=2, max_size=40), st.randoms(use_true_random=False))
@SLOW
def test_a_wrong_order_is_refused_where_it_costs_more_than_the_limit(sequence: list[int], random) -> None:  # type: ignore[no-untyped-def]
    launches = launches_of(sequence)
    order = list(range(len(sequence)))
    random.shuffle(order)
    rows = [replace(row, id=n) for row, n in zip(counted(launches), order, strict=True)]
    permuted = [k for _, k in sorted(zip(order, sequence, strict=True))]
    share = 100 * heaviest(permuted, sequence) / sum(KERNELS[k][1] for k in sequence)
    found = join(file_of(rows), launches)
    assert found.matched_pct == pytest.approx(share)
    assert bool(found.refused) == (share < REFUSED_BELOW_PCT)
    has = found.values[BYTES].notna().to_numpy()
    assert has.any() == (not found.refused)
    origin = found.values[BYTES][has].astype(int).tolist()
    assert [sequence[n] for n in origin] == [sequence[n] for n in np.flatnonzero(has)]  # every pair has equal keys


@given(st.data())
@SLOW
def test_launches_that_are_missing_or_too_many_cost_only_themselves(data: st.DataObject) -> None:
    sequence = data.draw(st.lists(st.integers(0, 4), min_size=100, max_size=160))
    launches = launches_of(sequence)
    rows, total, lost = counted(launches), sum(KERNELS[k][1] for k in sequence), 0
    for at in data.draw(st.lists(st.integers(0, len(sequence) - 1), unique=True, max_size=8)):
        if 100 * (lost + KERNELS[sequence[at]][1]) <= 5 * total:
            lost += KERNELS[sequence[at]][1]
            rows = [row for row in rows if row.values[BYTES] != at]
    for at in sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=8))):
        rows.insert(at, Row(0, KERNELS[data.draw(st.integers(0, 4))][0], {BYTES: -1.0}, "9,9,9"))
    found = join(file_of([replace(row, id=n) for n, row in enumerate(rows)]), launches)
    assert not found.refused
    assert found.matched_pct == pytest.approx(100 - 100 * lost / total)
    has = found.values[BYTES].notna().to_numpy()
    origin = found.values[BYTES][has].astype(int).tolist()
    assert [sequence[n] for n in origin] == [sequence[n] for n in np.flatnonzero(has)]
    assert found.used == has.sum() == sum(row.values[BYTES] >= 0 for row in rows)


def test_one_counted_iteration_serves_each_traced_step() -> None:
    step = [0, 1, 2, 3]
    launches = launches_of([4, *step * 3, 4], [-1, *[0] * 4, *[1] * 4, *[2] * 4, -1])
    once = launches.iloc[1:5].reset_index(drop=True)
    found = join(file_of(counted(once)), launches)
    assert found.matching.endswith("against each step")
    assert found.matched_pct == 100.0  # of what ran in steps
    assert np.isnan(recovered(found)[0])
    assert recovered(found)[1:13] == [0, 1, 2, 3] * 3
    assert found.used == 4


def test_a_file_of_the_whole_run_keeps_its_iterations_apart() -> None:
    launches = launches_of([0, 1, 2] * 3, [0] * 3 + [1] * 3 + [2] * 3)
    found = join(file_of(counted(launches)), launches)
    assert found.matching.endswith("against the whole trace")
    assert recovered(found) == list(range(9))


def test_launches_are_matched_in_the_order_of_their_calls() -> None:
    launches = launches_of([0, 1, 2, 3])
    launches.loc[[1, 2], "start_ns"] = [9_900, 9_000]  # another stream ran the later launch first
    found = join(file_of(counted(launches)), launches)
    assert recovered(found) == [0, 1, 2, 3]
    unknown = launches.assign(launch_ns=-1)
    assert join(file_of(counted(unknown)), unknown).matched_pct == 100.0


def test_copies_and_fills_are_never_matched() -> None:
    launches = launches_of([0, 1, 2, 1, 0])
    launches.loc[[1, 3], "category"] = ["gpu_memcpy", "gpu_memset"]
    found = join(file_of(counted(launches)), launches)
    assert found.matched_pct == 100.0
    assert found.values[BYTES].notna().tolist() == [True, False, True, False, True]


def test_names_are_compared_less_strictly_where_they_have_to_be() -> None:
    launches = launches_of([0, 1, 2, 1, 0])
    rows = counted(launches)
    for change, words in (
        (lambda name: name.replace("<4>", "<T1>").replace("<float>", "<T1>"), "names without template arguments"),
        (lambda name: f"other::{name.partition('<')[0]}", "the last part of names"),
    ):
        found = join(file_of([replace(row, kernel=change(row.kernel)) for row in rows]), launches)
        assert found.matching.startswith(words)
        assert recovered(found) == [0, 1, 2, 3, 4]


def test_another_grid_is_another_kernel() -> None:
    launches = launches_of([0, 1, 2])
    found = join(file_of([replace(row, grid="7,7,7") for row in counted(launches)]), launches)
    assert found.matched_pct == 0.0
    assert found.refused == (
        "the counters match 0.0 % of the kernel time, and 95 % are needed; kernel 1 of the trace is gemm<4> (grid 1,2,1, "
        "block 256,1,1), and the launch counted there is gemm<(int)4> (grid 7,7,7, block 256,1,1)"
    )
    assert found.values.isna().all(axis=None)
    assert found.values.columns.tolist() == [TIME, BYTES]


def test_files_without_dimensions_or_with_totals_are_matched_by_what_they_tell() -> None:
    launches = launches_of([0, 1, 2])
    bare = join(file_of([replace(row, grid="", block="") for row in counted(launches)]), launches)
    assert (bare.matched_pct, bare.matching.partition(",")[0]) == (100.0, "whole names")
    totals = [replace(row, grid=str((n + 1) * 2), block="256") for n, row in enumerate(counted(launches))]
    assert recovered(join(file_of(totals), launches)) == [0, 1, 2]
    assert join(file_of([replace(row, grid="999") for row in totals]), launches).refused


def group(launches: pd.DataFrame, process: int, metric: str, slower: float = 1.0) -> list[Row]:
    rows = counted(launches, process)
    return [replace(r, values={TIME: float(r.values[TIME]) * slower, metric: float(r.values[BYTES])}) for r in rows]


def test_groups_of_metrics_are_joined_per_launch() -> None:
    launches = launches_of([0, 1, 2, 1, 0])
    found = join(file_of([*group(launches, 1, "a__one.sum"), *group(launches, 2, "b__two.sum", 1.2)]), launches)
    assert found.values["a__one.sum"].tolist() == found.values["b__two.sum"].tolist() == [0, 1, 2, 3, 4]
    assert found.values[TIME].tolist() == [900, 300, 200, 300, 900]  # of the process that matches best, else the first
    assert found.used == 10
    assert found.notes == (
        "Process 2 took 1.20 x as long over the same kernels as process 1. The two counted under different conditions.",
    )


def test_a_process_that_matches_badly_is_left_out_and_told() -> None:
    launches = launches_of([0, 1, 2, 1, 0])
    other = launches_of([4, 4, 4])
    found = join(file_of([*group(other, 1, "b__two.sum"), *group(launches, 2, "a__one.sum")]), launches)
    assert found.values["a__one.sum"].tolist() == [0, 1, 2, 3, 4]
    assert found.values["b__two.sum"].isna().all()
    assert found.notes == ("Process 1 matches no kernel of the trace. Its counters are left out.",)


def test_a_metric_comes_from_the_process_that_matches_best() -> None:
    launches = launches_of([0] * 30 + [4])
    short = [row for row in group(launches, 1, BYTES) if row.id != 30]
    whole = [replace(row, values={BYTES: 100.0 + row.id}) for row in group(launches, 2, BYTES)]
    found = join(file_of([*short, *whole]), launches)
    assert recovered(found) == [100.0 + n for n in range(31)]


def test_of_several_devices_the_one_that_fits_is_taken() -> None:
    launches = launches_of([0, 1, 2])
    rows = [replace(row, device="0") for row in counted(launches_of([4, 4]))]
    found = join(file_of([*rows, *(replace(row, device="3") for row in counted(launches))]), launches)
    assert recovered(found) == [0, 1, 2]
    assert found.notes == ("2 of 5 counted launches have none in the trace and were not used.",)


def test_a_trace_of_two_devices_takes_each_from_its_own() -> None:
    one, two = launches_of([0, 1, 2]), launches_of([3, 4, 3]).assign(device=1)
    launches = pd.concat([one, two], ignore_index=True)
    rows = [*counted(one), *(replace(row, device="1", values={BYTES: row.values[BYTES] + 10}) for row in counted(two))]  # type: ignore[operator]
    assert recovered(join(file_of(rows), launches)) == [0, 1, 2, 10, 11, 12]


def test_nothing_to_join_is_said_so() -> None:
    launches = launches_of([0, 1])
    file = file_of(counted(launches))
    assert join(replace(file, refused="why"), launches).refused == "why"
    assert join(replace(file, rows=file.rows.iloc[:0]), launches).refused == "the file holds no counted launch"
    for none in (launches.iloc[:0], launches.assign(category="operator"), launches.assign(dur_ns=0)):
        found = join(file, none)
        assert found.refused == "the trace has no kernels"
        assert found.values.index.equals(none.index)


def test_the_index_of_the_launches_is_kept() -> None:
    launches = launches_of([0, 1, 2])
    launches.index = pd.Index([7, 5, 9])
    found = join(file_of(counted(launches.reset_index(drop=True))), launches)
    assert found.values.index.tolist() == [7, 5, 9]
    assert recovered(found) == [0, 1, 2]


@pytest.mark.parametrize("shuffled", [False, True])
def test_counters_of_public_traces_in_the_spelling_of_nsight(public_traces: Path, tmp_path: Path, *, shuffled: bool) -> None:
    for path in sorted(public_traces.glob("*.json.gz")):
        launches = link(read_trace(path)).launches
        rows = counted(launches)
        if not rows:
            continue
        if shuffled:
            rows = [rows[n] for n in np.random.default_rng(8).permutation(len(rows))]
        found = join(read_counter_file(write(tmp_path / "c.csv", raw_page(rows))), launches)
        assert (found.matched_pct, found.used, found.refused) == (100.0, len(rows), ""), path.name
        assert found.matching.startswith("whole names, grid and block"), path.name
        kernels = (launches["category"] == "kernel").to_numpy()
        assert recovered(found) == [float(n) if k else pytest.approx(np.nan, nan_ok=True) for n, k in enumerate(kernels)]


def test_a_step_of_a_real_training_serves_the_other_steps(public_traces: Path, tmp_path: Path) -> None:
    launches = link(read_trace(public_traces / "kineto_v100_resnet50_train_nw0.json.gz")).launches
    one = launches[launches["step"] == 2]
    found = join(read_counter_file(write(tmp_path / "c.csv", raw_page(counted(one)))), launches)
    assert not found.refused
    assert found.matched_pct > 99
    for step, rows in launches[launches["category"] == "kernel"].groupby("step"):
        origin = found.values[BYTES].loc[rows.index].dropna().astype(int)
        assert (launches["kernel"].loc[origin].to_numpy() == rows["kernel"].loc[origin.index].to_numpy()).all(), step


def test_counters_of_another_model_are_refused(public_traces: Path, tmp_path: Path) -> None:
    launches = link(read_trace(public_traces / "kineto_v100_resnet50_train_nw0.json.gz")).launches
    other = link(read_trace(public_traces / "param_rtx2080ti_resnet_train.json.gz")).launches
    found = join(read_counter_file(write(tmp_path / "c.csv", raw_page(counted(other)))), launches)
    assert found.refused.startswith("the counters match ")
    assert found.values.isna().all(axis=None)
    assert found.used == 0
