"""The plugin's own parser as a cross-check: on real traces it counts the kernels that we count, and as much time.

What the two may differ in, and why nothing of it does on kernels: the plugin adds up the ``dur`` of every event of the category
``kernel``; so do we, and copies and fills are neither's kernels. Old traces are in whole microseconds for both. Kernels of no
duration count. Sums differ by the rounding of doubles alone.
"""

from __future__ import annotations

import pytest

from analyzer.report.tensorboard.trace_copy import copy_trace
from analyzer.trace.kineto import Trace, read_trace
from analyzer.trace.link import link
from tests.conftest import PUBLIC_TRACES
from tests.report.tensorboard_server import Parsed, parse

NVIDIA = {
    "hta_a100_alexnet_critical_path": 79,
    "kineto_v100_resnet50_train_nw0": 8772,
    "param_rtx2080ti_resnet_train": 9628,
    "saf_a100_sam_amg_vith_fast": 2514,
    "tracelens_b200_eager": 768,
    "tracelens_h100_vit_nsfw_infer": 154,
}
AMD = {"tracelens_mi300_vit_nsfw_infer": 155}
GPU = NVIDIA | AMD


@pytest.fixture(scope="module", params=sorted(GPU))
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Trace, Parsed, Parsed]:
    """Return the name of a trace, what we read of it, and what the plugin reads of the file itself and of our copy."""
    if not PUBLIC_TRACES.is_dir():
        pytest.skip("the public traces are not here: they lie in ../shared and are not part of the repository")
    source = PUBLIC_TRACES / f"{request.param}.json.gz"
    trace = read_trace(source)
    target = tmp_path_factory.mktemp("copy") / "copy.pt.trace.json.gz"
    copy_trace(trace, target)
    return request.param, trace, parse(source), parse(target)


def test_kernels_are_as_many_and_take_as_long(both: tuple[str, Trace, Parsed, Parsed]) -> None:
    name, trace, original, copy = both
    ours = len(trace.kernels), trace.kernels["dur_ns"].sum() / 1e3
    assert ours[0] == GPU[name]
    assert original.kernels == pytest.approx(ours, rel=1e-12)
    assert copy.kernels == pytest.approx(ours, rel=1e-12)


def test_each_kernel_takes_as_long(both: tuple[str, Trace, Parsed, Parsed]) -> None:
    _, trace, _, copy = both
    ours = (trace.kernels.groupby("name", observed=True)["dur_ns"].sum() / 1e3).to_dict()
    assert copy.data.kernel_stat["sum"].to_dict() == pytest.approx(ours, rel=1e-12)


def test_every_operator_has_the_device_time_that_we_give_it(both: tuple[str, Trace, Parsed, Parsed]) -> None:
    """Kernels, copies and fills by operator. In the file itself the plugin finds none, or in the oldest trace the same."""
    name, trace, original, copy = both
    launches = link(trace).launches
    kernels = launches[launches["category"] == "kernel"]  # what the totals of a report are the sums of
    assert (len(kernels), kernels["dur_ns"].sum() / 1e3) == pytest.approx(copy.kernels, rel=1e-12)
    ours = (launches[launches["op_index"] >= 0].groupby("op")["dur_ns"].sum() / 1e3).to_dict()
    assert sum(copy.device_us.values()) > 0
    assert copy.device_us == pytest.approx({op: us for op, us in ours.items() if us}, rel=1e-9)
    oldest = "kineto_v100_resnet50_train_nw0"  # of 2021, as the plugin expects it
    assert original.device_us == (copy.device_us if name == oldest else {})


def test_nothing_of_the_copy_puzzles_the_plugin(both: tuple[str, Trace, Parsed, Parsed]) -> None:
    """Of the file itself it logs a line for each launch without an operator, thousands of them, and removes steps."""
    _, _, _, copy = both
    assert copy.said == []
    views = [view.display_name for view in copy.profile.views]
    assert views[:4] == ["Overview", "Operator", "Kernel", "Trace"]
