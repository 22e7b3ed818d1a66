"""A digest says what the analysis says, in fewer rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyzer.analysis import analyze, digests
from analyzer.insight.digest import digest
from analyzer.insight.telemetry import telemetry, timed_samples
from analyzer.schema.digest import DIGEST_GROUPS, DIGEST_KINDS
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis
from tests import traces
from tests.report.synthetic import Fake, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyze(write_run(tmp_path_factory.mktemp("digest"), Fake()))


def test_groups_and_kinds_hold_all_the_time_of_one_batch(run: Analysis) -> None:
    found = digest(run)
    assert tuple(found.groups.columns) == DIGEST_GROUPS
    assert tuple(found.kinds.columns) == DIGEST_KINDS
    assert run.window.batches == 3
    busy = run.launches["exclusive_us"].sum() / 3
    assert found.groups["time_us"].sum() == pytest.approx(busy, rel=1e-12)
    assert found.kinds["time_us"].sum() == pytest.approx(busy, rel=1e-12)
    assert found.groups["calls"].sum() == pytest.approx(len(run.launches) / 3)
    assert found.kinds["flop"].sum() == pytest.approx(run.totals.flop / 3)
    assert found.groups["bytes_compulsory"].sum() == pytest.approx(run.totals.bytes_compulsory / 3)
    assert found.groups["time_us"].is_monotonic_decreasing


def test_every_step_has_its_share_of_a_group(run: Analysis) -> None:
    found = digest(run)
    assert set(map(len, found.groups["step_us"])) == {3}
    means = np.array([np.mean(steps) for steps in found.groups["step_us"]])
    assert means == pytest.approx(found.groups["time_us"].to_numpy())
    flash = found.groups[found.groups["kind"] == "attention"]
    assert flash["kernels"].iloc[0] == ("void flash::flash_fwd_kernel<Traits<64, 128>>(Params)",)
    assert found.tokens == 197  # [32, 197, 12, 64]: this entry point has the tokens before the heads


def test_operators_that_differ_in_module_or_shape_stay_apart(run: Analysis) -> None:
    halves = run.launches["index"] % 2
    found = digest(replace(run, launches=run.launches.assign(module=halves.map({0: "blocks.0", 1: "blocks.1"})))).groups
    assert not found.duplicated(["role", "kind", "op", "shapes", "dtype", "module"]).any()
    assert set(found["module"]) == {"blocks.0", "blocks.1"}
    by_module = found.groupby("module")["time_us"].sum() * 3
    assert by_module["blocks.1"] == pytest.approx(run.launches["exclusive_us"][halves == 1].sum())


def test_hardware_is_the_datasheet_or_the_reason_why_there_is_none(run: Analysis) -> None:
    found = digest(run).hardware
    assert (found.key, found.figures["dram_bandwidth"].value) == ("h100_sxm5_80gb", 3350)
    assert found.figures["dram_bandwidth"].evidence is Evidence.SPEC
    unknown = digest(replace(run, device=replace_device(run, "NVIDIA Nobody 1"))).hardware
    assert unknown.figures == {}
    assert "NVIDIA Nobody 1" in unknown.reason


def replace_device(run: Analysis, name: str):  # type: ignore[no-untyped-def]
    import msgspec

    return msgspec.structs.replace(run.device, name=name)


def test_energy_is_mean_power_times_the_median(run: Analysis) -> None:
    rows = timed_samples(run)
    assert len(rows) >= 3
    found = telemetry(run)
    assert found is not None
    counter = rows[["time_ns", "energy_j"]].dropna()
    if len(counter) >= 3:
        watts = counter["energy_j"].diff().sum() / (counter["time_ns"].diff().sum() / 1e9)
    else:
        watts = rows["power_instant_w"].fillna(rows["power_average_w"]).mean()
    assert found.energy_j.value == pytest.approx(watts * run.latency.median_ms.value / 1e3)
    assert found.energy_j.evidence is Evidence.DERIVED
    assert found.power_w.value == pytest.approx(rows["power_instant_w"].fillna(rows["power_average_w"]).median())
    assert found.sm_clock_mhz.value == rows["sm_clock_mhz"].median()


def test_without_samples_of_power_there_is_a_reason_and_no_zero(run: Analysis) -> None:
    dark = run.samples.assign(power_instant_w=np.nan, power_average_w=np.nan, energy_j=np.nan)
    found = telemetry(replace(run, samples=dark))
    assert found is not None
    assert found.energy_j.value is None
    assert found.power_w.source
    assert telemetry(replace(run, samples=pd.DataFrame(columns=run.samples.columns))) is None


def test_a_bare_trace_has_a_digest_without_facts(tmp_path: Path) -> None:
    path = traces.write(
        tmp_path / "bare.json",
        [
            traces.op(
                "aten::_scaled_dot_product_flash_attention",
                10,
                20,
                dims=[[2, 3, 50, 64]] * 3,
                types=["c10::BFloat16"] * 3,
                ext=1,
            ),
            traces.launch(12, 5),
            traces.kernel("flash_fwd", 40, 8, 5, ext=1),
        ],
    )
    (found,) = digests([path])
    assert found.facts is None
    assert (found.batches, found.family, found.versions, found.telemetry) == (None, "", {}, None)
    assert (found.batch_size, found.tokens) == (None, 50)
    assert found.groups["step_us"].tolist() == [()]
    assert found.groups["time_us"].tolist() == [8.0]


def test_digests_are_made_one_after_the_other(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path / str(n), Fake(family=family)) for n, family in enumerate(("vit", "cnn")))
    made = digests([first, tmp_path / "nothing", second])
    assert next(made).family == "vit"  # the second does not exist, and nobody has looked yet
