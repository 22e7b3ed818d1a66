"""Section "occupancy": its sentence, figure and tables tell the same numbers, and where it has none it says why."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analyzer.analysis import analyze, compare
from analyzer.report.blocks import Figure, Notice, Prose, Section, Table
from analyzer.report.marks.occupancy import GRID, MAX_MARKS, NAMED, UNKNOWN, limits, occupancy, tail_curve
from analyzer.report.render import page
from analyzer.report.sections.occupancy import section
from analyzer.schema.results import Study
from tests.conftest import PUBLIC_TRACES
from tests.report.conftest import make_study
from tests.report.markup import read
from tests.report.synthetic import Fake
from tests.report.test_page import HOSTILE, check_page


def made(found: Study) -> Section:
    out = section(found)
    assert out is not None
    return out


def table(found: Section, table_id: str) -> Table:
    return next(b for b in found.blocks if isinstance(b, Table) and b.id == table_id)


def sentences(found: Section) -> list[str]:
    return [b.text for b in found.blocks if isinstance(b, Prose) and b.evidence is not None]


def changed(found: Study, **columns: object) -> Study:
    """Return a study of the first run alone with columns of its kernels replaced."""
    a = found.analyses[0]
    return replace(found, analyses=(replace(a, kernels=a.kernels.assign(**columns)),), gap=None)


def public(name: str) -> Study:
    path = PUBLIC_TRACES / f"{name}.json.gz"
    if not path.is_file():
        pytest.skip("the public traces are not here")
    return compare(analyze(path))


def test_sentence_equals_the_summary_and_the_table(gpu_pair: Study) -> None:
    found = made(gpu_pair)
    rows = table(found, "occupancy-limit-table").rows
    for a, text in zip(gpu_pair.analyses, sentences(found), strict=True):
        own = [row for row in rows if row.run == a.label]
        *parts, whole = own
        assert whole.marked
        assert whole.cells[5].value == pytest.approx(a.totals.occupancy_pct.value)
        assert f"allow {whole.cells[5].text} % occupancy" in text
        assert f"would be {whole.cells[4].text} %" in text
        assert f"Kineto's own figure is {a.totals.occupancy_kineto_pct.value:.1f} %" in text
        assert sum(row.cells[2].value or 0 for row in parts) == pytest.approx(100)
        assert sum(row.cells[3].value or 0 for row in parts) == pytest.approx(100)
        weighted = sum((row.cells[2].value or 0) * (row.cells[5].value or 0) for row in parts)
        assert weighted / 100 == pytest.approx(a.totals.occupancy_pct.value)


def test_marks_add_up_to_the_known_time(gpu_pair: Study) -> None:
    data = occupancy(gpu_pair.analyses)
    for run, summary in enumerate(data.summaries):
        own = [mark for mark in data.marks if mark.run == run]
        assert sum(mark.share_pct for mark in own) == pytest.approx(100)
        mean = sum(mark.share_pct * mark.occupancy_pct for mark in own) / 100
        assert mean == pytest.approx(summary.whole.occupancy_pct)
    assert [mark.rank for mark in data.marks[:NAMED]] == list(range(1, NAMED + 1))
    assert not any(mark.rank for mark in data.marks[NAMED:])


def test_many_marks_are_joined_close_by(gpu_single: Study) -> None:
    kernels = gpu_single.analyses[0].kernels
    many = pd.concat([kernels.assign(kernel=f"k{i}", waves=0.01 * 1.1**i, occupancy_pct=(7.0 * i) % 100) for i in range(90)])
    many = many.assign(time_us=range(1, len(many) + 1))
    many = many.assign(share_pct=100 * many["time_us"] / many["time_us"].sum()).reset_index(drop=True)
    data = occupancy((replace(gpu_single.analyses[0], kernels=many),))
    assert len(data.marks) <= MAX_MARKS
    joined = [mark for mark in data.marks if mark.joined > 1]
    assert joined
    assert sum(mark.share_pct for mark in data.marks) == pytest.approx(100)
    assert all((mark.waves < 1) == (mark.limit == GRID) for mark in data.marks)
    mean = sum(mark.share_pct * mark.occupancy_pct for mark in data.marks) / 100
    assert mean == pytest.approx(data.summaries[0].whole.occupancy_pct)


def test_limit_is_the_grid_below_one_wave() -> None:
    rows = pd.DataFrame(
        {
            "occupancy_limit": ["registers", "warps", ""],
            "waves": [0.5, 1.0, math.nan],
            "occupancy_pct": [10.0, 100.0, math.nan],
        }
    )
    assert limits(rows).tolist() == [GRID, "warps", UNKNOWN]


def test_tail_curve_is_waves_over_waves_rounded_up() -> None:
    points = tail_curve(0.1, 6)
    assert points[0] == pytest.approx((0.1, 10))
    for waves, filled in points:
        assert filled == pytest.approx(100 * waves / math.ceil(waves), abs=0.02)
    assert tail_curve(0.1, 5000)[-1] == pytest.approx((5000, 100 * 5000 / 5001))
    assert len(tail_curve(1e-4, 1e6)) < 600


def test_kernel_table_holds_the_rows_of_kernels_csv(gpu_single: Study) -> None:
    kernels = gpu_single.analyses[0].kernels
    rows = table(made(gpu_single), "occupancy-kernel-table").rows
    assert [row.cells[1].value for row in rows] == pytest.approx(kernels["share_pct"].head(30).tolist())
    assert [row.cells[7].value for row in rows] == pytest.approx(kernels["occupancy_pct"].head(30).tolist())
    for row, theoretical in zip(rows, kernels["occupancy_theoretical_pct"], strict=True):
        threads, resident = row.cells[2].value, row.cells[5].value
        assert threads is not None
        assert resident is not None
        assert 100 * resident * threads / 2048 == pytest.approx(theoretical)


def test_unknown_occupancy_stays_unknown(gpu_single: Study) -> None:
    a = gpu_single.analyses[0]
    first = a.kernels.index == 0
    columns = ("occupancy_theoretical_pct", "occupancy_pct", "waves", "tail_efficiency_pct", "registers")
    found = made(changed(gpu_single, **{name: a.kernels[name].mask(first) for name in columns}))
    share = float(a.kernels["share_pct"].iloc[0])
    assert f"{share:.0f} % of the time is not known" in sentences(found)[0]
    *parts, whole = table(found, "occupancy-limit-table").rows
    assert parts[-1].cells[0].text == UNKNOWN
    assert parts[-1].cells[1].value == pytest.approx(share)
    assert whole.cells[0].text == "all that is known"
    assert whole.cells[1].value == pytest.approx(100 - share)
    figure = next(b for b in found.blocks if isinstance(b, Figure))
    assert "not in the trace" in figure.caption
    assert table(found, "occupancy-kernel-table").rows[0].cells[5].value is None


def test_without_figures_of_kineto(gpu_single: Study) -> None:
    found = made(changed(gpu_single, occupancy_kineto_pct=math.nan))
    assert "no figure of Kineto's" in sentences(found)[0]


def test_cpu_has_no_such_section(cpu_pair: Study) -> None:
    assert section(cpu_pair) is None
    assert 'id="occupancy"' not in page(cpu_pair)


def test_never_a_judgement(gpu_pair: Study) -> None:
    text = " ".join(b.text for b in made(gpu_pair).blocks if isinstance(b, Prose))
    assert "not what was achieved" in text
    assert not re.search(r"\b(good|bad|poor|great|excellent|healthy)\b", text)


def test_figure_is_drawn_without_warnings(gpu_pair: Study) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = made(gpu_pair)
        assert found == made(gpu_pair)
    figure = next(b for b in found.blocks if isinstance(b, Figure))
    assert len(figure.svg) < 150_000
    assert figure.table is not None
    assert len(figure.table.rows) == len(occupancy(gpu_pair.analyses).marks)


def test_hostile_names(tmp_path: Path) -> None:
    html = page(make_study(tmp_path, Fake(names=HOSTILE, label=HOSTILE[1])))
    check_page(html)
    found = read(html)
    assert "fig8" in found.ids
    assert "<img src=x" not in html
    assert "<script>window" not in html
    assert found.tables["occupancy-kernel-table"]


def test_amd_says_why() -> None:
    found = made(public("tracelens_mi300_vit_nsfw_infer"))
    (notice,) = found.blocks
    assert isinstance(notice, Notice)
    assert "AMD" in notice.text
    assert "rocprofv3" in notice.text


@pytest.mark.parametrize(
    ("name", "ours", "kineto"), [("tracelens_h100_vit_nsfw_infer", "19.6", "14.1"), ("tracelens_b200_eager", "26.1", "12.7")]
)
def test_public_traces(name: str, ours: str, kineto: str) -> None:
    (text,) = sentences(made(public(name)))
    assert f"allow {ours} % occupancy" in text
    assert f"Kineto's own figure is {kineto} %, because it writes 0" in text
