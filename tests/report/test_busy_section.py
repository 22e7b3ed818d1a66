"""Section "busy": what the host launches, start-up and end, and shares that add up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyzer.analysis import analyze
from analyzer.report.blocks import Figure
from analyzer.report.sections.busy import _edges, _launches, section
from analyzer.schema.results import Study
from tests import traces


def test_kernels_of_a_graph_are_one_launch(gpu_single: Study) -> None:
    a = gpu_single.analyses[0]
    first = a.launches[a.launches["category"] == "kernel"].head(1)
    alone = first.assign(link="operator")
    replayed = first.assign(link="graph", correlation=77, launch_ns=5)
    both = replace(a, launches=pd.concat([alone, alone, *[replayed] * 554], ignore_index=True))
    assert _launches(both, 1) == "2 kernels launched one by one and 1 launch of a graph with 554 kernels"


def test_start_up_and_end_are_said_where_they_are_long(tmp_path: Path) -> None:
    path = tmp_path / "t.pt.trace.json"
    traces.write(path, traces.document(traces.gpu_step()))
    a = analyze(path)
    # kernels at 100 to 250 and 350 to 450 of 1000 us, a copy at 500 to 550
    assert _edges(a) == (
        " This counts start-up and end of the recording: idle 100 µs (10 % of the traced time) before the first kernel and "
        "500 µs (50 % of the traced time) after the last kernel."
    )
    window = replace(a.window, start_ns=int(np.min(a.segments[0])), end_ns=int(np.max(a.segments[1])))
    assert "before the first kernel" not in _edges(replace(a, window=window))


def test_shares_of_the_timeline_add_up(gpu_pair: Study) -> None:
    figure = next(block for block in section(gpu_pair).blocks if isinstance(block, Figure))
    assert figure.table is not None
    for label in {row.cells[0].text for row in figure.table.rows}:
        mine = [row for row in figure.table.rows if row.cells[0].text == label]
        total = sum(row.cells[4].value or 0 for row in mine)
        assert total == pytest.approx(1e3 * sum(row.cells[3].value or 0 for row in mine))
        shares = [row.cells[4].text.removesuffix(" %").replace("under ", "") for row in mine]
        assert sum(map(float, shares)) == pytest.approx(100, abs=2)
