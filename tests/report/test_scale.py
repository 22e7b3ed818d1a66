"""A trace with very many different kernels still gives a small page that says what it leaves out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from analyzer.analysis import analyze, compare
from analyzer.report.render import MAX_PAGE_BYTES, write_report
from analyzer.schema.results import Study
from tests.report.markup import Page, read

KERNELS = 5000


def many_kernels() -> dict[str, object]:
    """Return a trace of ``KERNELS`` launches of as many kernels, each with a name, an operator and a stack of its own."""
    events: list[dict[str, object]] = []
    for i in range(KERNELS):
        at, long = 1000.0 + 10 * i, f"<{i:05d}>".join("Tensor" for _ in range(120))
        shapes = [[1 + i, 3, 224, 224], [64, 3, 7, 7]]
        args = {"External id": i, "Input Dims": shapes, "Input type": ["float"] * 2, "Call stack": f"model_{i}.py(1): {long}"}
        common = {"ph": "X", "pid": 1}
        events += [
            {**common, "cat": "cpu_op", "name": f"own::op_{i}_{long}", "ts": at, "dur": 4.0, "tid": 1, "args": args},
            {**common, "cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": at + 1, "dur": 1.0, "tid": 1, "args": {"correlation": i}},
            {**common, "cat": "kernel", "name": f"void kernel_{i}_{long}(int)", "ts": at + 3, "dur": 2.0 + i / KERNELS, "tid": 7,
             "args": {"device": 0, "stream": 7, "correlation": i, "grid": [1 + i, 1, 1], "block": [128, 1, 1],
                      "registers per thread": 32, "shared memory": 0}},
        ]  # fmt: skip
    device = {"id": 0, "name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85_000_000_000, "computeMajor": 9, "computeMinor": 0,
              "numSms": 132}  # fmt: skip
    return {"traceEvents": events, "deviceProperties": [device]}


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    root = tmp_path_factory.mktemp("crowded")
    (root / "trace.json").write_text(json.dumps(many_kernels()))
    (root / "other.json").write_text(json.dumps(many_kernels()))
    out = root / "out"
    out.mkdir()
    found = compare(analyze(root / "trace.json"), analyze(root / "other.json"))
    write_report(found, out)
    return found, out


def test_the_page_stays_small(crowded: tuple[Study, Path]) -> None:
    _, out = crowded
    assert (out / "index.html").stat().st_size < MAX_PAGE_BYTES


def test_nothing_is_dropped_silently(crowded: tuple[Study, Path]) -> None:
    found, out = crowded
    page: Page = read((out / "index.html").read_text())
    rows = page.tables["kernel-table"][2:]
    caption = re.search(r"([\d\u202f]+) of ([\d\u202f]+) rows, longest first; all of them are in kernels\.csv", page.text)
    assert caption is not None
    shown, total = (int(text.replace("\u202f", "")) for text in caption.groups())
    assert (shown, total) == (len(rows), 2 * KERNELS)
    assert len(pd.read_csv(out / "kernels.csv")) == total
    assert sum(a.totals.kernel_count for a in found.analyses) == total


def test_the_summary_is_whole_beside_the_page(crowded: tuple[Study, Path]) -> None:
    _, out = crowded
    told = json.loads((out / "summary.json").read_text())
    page: Page = read((out / "index.html").read_text())
    embedded = json.loads(next(text for attrs, text in page.scripts if attrs.get("id") == "summary"))
    assert embedded in (told, {"left_out": "too long for this page; see summary.json"})
    assert [run["kernel_count"]["value"] for run in told["runs"]] == [KERNELS] * 2
