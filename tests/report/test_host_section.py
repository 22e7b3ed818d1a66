"""Section "host": trees, steps and call stacks as a page shows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analyzer.analysis import analyze, compare
from analyzer.report.blocks import Figure, Node, Notice, Section, Table, Tree
from analyzer.report.figures.steps import limits_us
from analyzer.report.files import FILES, write_files
from analyzer.report.marks.host import MIN_SHARE, StepBar, StepBars, forest, step_bars
from analyzer.report.render import MAX_PAGE_BYTES, page, write_report
from analyzer.report.sections.host import MAX_ROWS, section
from analyzer.schema.profile import STEP_PARTS, TREE_COLUMNS
from analyzer.schema.results import Study
from tests import traces

HOSTILE = "<script>alert(1)</script>\u202e\"'" + "x" * 100_000


def built(found: Study) -> Section:
    made = section(found)
    assert made is not None
    return made


def trees(found: Section) -> list[Tree]:
    return [block for block in found.blocks if isinstance(block, Tree)]


def nodes(tree: Tree) -> Iterator[Node]:
    def below(given: tuple[Node, ...]) -> Iterator[Node]:
        for node in given:
            yield node
            yield from below(node.children)

    return below(tree.nodes)


def bare(tmp_path: Path, events: list[dict[str, Any]], *, gpu: bool = True) -> Study:
    return compare(analyze(traces.write(tmp_path / "t.json", traces.document(events, gpu=gpu))))


@pytest.mark.parametrize(("gpu", "columns"), [(True, 7), (False, 5)])
def test_a_pair_has_a_tree_of_each_sort_per_run(tmp_path: Path, *, gpu: bool, columns: int) -> None:
    events = traces.gpu_step() if gpu else traces.cpu_step()
    paths = [traces.write(tmp_path / f"{name}.json", traces.document(events, gpu=gpu)) for name in "ab"]
    made = trees(built(compare(*paths)))
    assert [tree.id for tree in made] == ["tree-operators-0", "tree-operators-1", "tree-modules-0", "tree-modules-1"]
    assert [bool(tree.title) for tree in made] == [True, False, True, False]
    assert all(len(tree.heads) == columns == len(node.cells) for tree in made for node in nodes(tree))


def test_shares_of_the_roots_are_all_of_the_time(gpu_pair: Study, cpu_pair: Study) -> None:
    for found in (gpu_pair, cpu_pair):
        for tree in trees(built(found)):
            assert sum(node.cells[1].value or 0 for node in tree.nodes) == pytest.approx(100)


def test_what_is_below_a_node_and_its_own_time_are_its_total(tmp_path: Path) -> None:
    tree = trees(built(bare(tmp_path, traces.cpu_step(), gpu=False)))[0]
    for node in nodes(tree):
        total, own = node.cells[2].value, node.cells[3].value
        assert total is not None
        assert own is not None
        if node.children:
            assert own + sum(child.cells[2].value or 0 for child in node.children) == pytest.approx(total)


def test_times_are_per_step_and_stand_in_the_caption(gpu_pair: Study) -> None:
    a = gpu_pair.analyses[0]
    assert a.host is not None
    assert a.window.batches is not None
    assert a.window.batches > 1
    tree = trees(built(gpu_pair))[0]
    assert "per step" in tree.caption
    shown = sum(node.cells[2].value or 0 for node in tree.nodes)
    whole = a.host.operators.loc[a.host.operators["depth"] == 0, "device_total_us"].sum()
    assert shown == pytest.approx(whole / 1e3 / a.window.batches)


def chain(count: int, share: float) -> pd.DataFrame:
    """A root of 1000 us with ``count`` children of ``share`` each."""
    times = [1000.0, *[1000 * share] * count]
    names = [f"n{i}" for i in range(count + 1)]
    values = (names, names, [0, *[1] * count], [1] * (count + 1), times, times, times, times)
    return pd.DataFrame(dict(zip(TREE_COLUMNS, values, strict=True)))


def test_a_page_shows_the_largest_and_counts_the_rest() -> None:
    found = forest(chain(50, 0.01), limit=11)
    assert (len(found.roots), len(found.roots[0].children), len(found.roots[0].rest)) == (1, 10, 40)
    assert (found.shown, found.total) == (11, 51)
    small = forest(chain(50, MIN_SHARE / 2), limit=1000)
    assert (len(small.roots[0].children), len(small.roots[0].rest)) == (0, 50)


def test_nodes_are_open_while_few_rows_are_in_view() -> None:
    assert forest(chain(10, 0.05), limit=1000).roots[0].open
    assert not forest(chain(40, 0.02), limit=1000).roots[0].open


def test_many_steps_become_means_of_neighbours(gpu_single: Study) -> None:
    a = gpu_single.analyses[0]
    assert a.host is not None
    steps = pd.DataFrame(
        {"step": [f"ProfilerStep#{k}" for k in range(130)], **{f"{p}_us": [float(k) for k in range(130)] for p in STEP_PARTS}}
    )
    many = dataclasses.replace(a, host=dataclasses.replace(a.host, steps=steps))
    bars = step_bars(many, 0)
    assert bars is not None
    assert (len(bars.bars), bars.each) == (44, 3)
    assert bars.bars[1].name == "ProfilerStep#3 to ProfilerStep#5"
    assert dict(bars.bars[1].parts)["kernel"] == 4
    assert bars.mean.total_us == pytest.approx(len(STEP_PARTS) * 64.5)
    figure = next(block for block in built(compare(many)).blocks if isinstance(block, Figure))
    assert "mean of up to 3 steps" in figure.caption


def test_a_much_longer_run_leaves_the_others_their_own_axis() -> None:
    def run(total: float) -> StepBars:
        bar = StepBar("0", 1, (("kernel", total / 4), ("other", 3 * total / 4)))
        return StepBars("a", 0, (bar,), bar, 1)

    assert limits_us((run(100.0), run(10.0))) == (100.0, 100.0)
    assert limits_us((run(100.0), run(9.0))) == (100.0, 9.0)
    assert limits_us((run(7.0),)) == (7.0,)


def test_the_numbers_of_the_figure_add_up(gpu_pair: Study) -> None:
    figure = next(block for block in built(gpu_pair).blocks if isinstance(block, Figure))
    assert figure.table is not None
    for row in figure.table.rows:
        whole, *parts = (cell.value or 0 for cell in row.cells[2:])
        assert sum(parts) == pytest.approx(whole)


def test_what_a_trace_cannot_show_is_said_with_the_reason(tmp_path: Path) -> None:
    events = [event for event in traces.gpu_step() if not event["name"].startswith("module::")]
    said = " ".join(block.text for block in built(bare(tmp_path, events)).blocks if isinstance(block, Notice))
    for text in ("no tree of modules", "with_stack=True", "no data loading", "stacks=true"):
        assert text in said


def test_a_trace_without_operators_makes_a_page_all_the_same(tmp_path: Path) -> None:
    found = bare(tmp_path, [traces.kernel("k", 100, 50, 1)])
    assert not trees(built(found))
    assert "no tree of operators" in page(found)


def test_hostile_names_neither_run_nor_fill_the_page(tmp_path: Path) -> None:
    events = traces.gpu_step()
    for event in events:
        if event["cat"] in ("cpu_op", "user_annotation") and not event["name"].startswith("ProfilerStep"):
            event["name"] = event["name"] + HOSTILE
        event["args"]["Call stack"] = f"/home/jdoe/{HOSTILE}.py(1): {HOSTILE};/home/jdoe/p/x.py(2): main"
    found = bare(tmp_path, events)
    text = page(found)
    assert "<script>alert(1)" not in text
    assert "\u202e" not in text
    assert "jdoe" not in text
    host = found.analyses[0].host
    assert host is not None
    assert host.operators["path"].str.len().max() < 3000


def test_a_wide_and_deep_trace_stays_within_the_rows_of_a_page(tmp_path: Path) -> None:
    events = [traces.note("ProfilerStep#1", 0, 1e6)]
    for k in range(1500):
        events += [traces.op(f"op{k}", 600 * k, 500), *(traces.op(f"in{k}", 600 * k + d, 500 - 2 * d) for d in range(1, 4))]
    found = bare(tmp_path, events, gpu=False)
    made = built(found)
    assert sum(1 for node in nodes(trees(made)[0]) if not node.rest) <= MAX_ROWS
    assert len(page(found).encode()) < MAX_PAGE_BYTES
    write_files(found, tmp_path)
    assert len(pd.read_csv(tmp_path / "operator_tree.csv")) == 6000


def test_both_trees_are_written_beside_the_page(gpu_pair: Study, tmp_path: Path) -> None:
    assert {"operator_tree.csv", "module_tree.csv"} <= set(FILES)
    write_files(gpu_pair, tmp_path)
    for name, which in (("operator_tree.csv", "operators"), ("module_tree.csv", "modules")):
        rows = pd.read_csv(tmp_path / name)
        assert rows.columns.tolist() == ["run", *TREE_COLUMNS]
        assert len(rows) == sum(len(getattr(a.host, which)) for a in gpu_pair.analyses)


def test_call_stacks_show_the_innermost_frame_and_the_whole_stack(public_traces: Path) -> None:
    found = built(compare(analyze(public_traces / "tracelens_h100_vit_nsfw_infer.json.gz")))
    table = next(block for block in found.blocks if isinstance(block, Table) and block.id == "stack-table")
    first = table.rows[0].cells[0]
    assert first.text == "torch/nn/modules/linear.py(124): forward"
    assert first.remark.startswith("from transformers/models/vit/modeling_vit.py(")
    assert len(first.detail) > 10


@pytest.mark.browser
@pytest.mark.parametrize("script", [True, False])
def test_trees_fold_in_a_browser_with_and_without_a_script(tmp_path: Path, chromium: Any, *, script: bool) -> None:
    write_report(bare(tmp_path, traces.cpu_step(), gpu=False), tmp_path)
    context = chromium.new_context(java_script_enabled=script)
    try:
        opened = context.new_page()
        opened.goto((tmp_path / "index.html").as_uri())
        tree = opened.locator("#tree-operators-0")
        first = tree.locator("details").first
        before = first.get_attribute("open")
        first.locator("summary").first.click()
        assert (first.get_attribute("open") is None) == (before is not None)
        tools = opened.locator("[data-tree=tree-operators-0]")
        assert tools.first.is_visible() == script
        if script:
            tools.nth(0).click()
            assert tree.locator("details:not([open])").count() == 0
            tools.nth(1).click()
            assert tree.locator("details[open]").count() == 0
    finally:
        context.close()


def test_kernels_of_no_module_are_a_row_of_the_tree(tmp_path: Path) -> None:
    tree = next(t for t in trees(built(bare(tmp_path, traces.gpu_step()))) if t.id == "tree-modules-0")
    assert [(node.cells[0].text, node.cells[1].value) for node in tree.nodes] == [("head", 60.0), ("(no module)", 40.0)]
    assert tree.nodes[1].cells[2].text == "0.100"
