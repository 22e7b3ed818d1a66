"""The crossover report: its files, its page, and hostile or very many points."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import ConfigError
from analyzer.insight.crossover.contests import find_best
from analyzer.insight.crossover.draws import Draws
from analyzer.insight.crossover.result import Crossover, crossover
from analyzer.progress import Reporter
from analyzer.report.blocks import tables_of
from analyzer.report.crossover.caveats import caveats
from analyzer.report.crossover.files import BEST_COLUMNS, POINT_COLUMNS, is_crossover_report
from analyzer.report.crossover.page import build, write_crossover_report
from analyzer.report.figures.crossover import apart, steps
from analyzer.report.marks.crossover import over_batch, per_image_ms
from analyzer.report.render import MAX_PAGE_BYTES
from analyzer.report.sections.glossary import glossary, meaning
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.settings import CaptureSettings, Settings
from analyzer.schema.sweep import Point, Sweep
from analyzer.tasks.crossover import crossover as task
from analyzer.tasks.crossover import write_crossover
from tests.insight.test_crossover_reading import store, sweep
from tests.report.crossover_points import GPU, Lines, around, record, rich, setting, timed
from tests.report.markup import Page, read
from tests.report.synthetic import Fake, write_run
from tests.report.test_browser import Opened, assert_accessible, assert_no_sideways_scroll

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>\u202eevil\x00 </script>&amp;' + "A" * 600


@pytest.fixture(scope="module")
def found() -> Crossover:
    return rich()


@pytest.fixture(scope="module")
def report(found: Crossover, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("crossover")
    write_crossover_report(found, out, ("analyzer", "-m", "experiment=rich"))
    return out


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def page(directory: Path) -> Page:
    return read((directory / "index.html").read_text(encoding="utf-8"))


def test_the_files_hold_every_point(found: Crossover, report: Path) -> None:
    assert is_crossover_report([f.name for f in report.iterdir()])
    points = rows(report / "points.csv")
    assert tuple(points[0]) == POINT_COLUMNS
    assert len(points) == len(found.sweep.points) == 182
    lost = [p for p in points if p["status"] == "out_of_memory"]
    assert len(lost) == 8
    assert {(p["latency_ms"], p["reason"]) for p in lost} == {("", "CUDA out of memory. Tried to allocate 24.00 GiB")}
    (gone,) = (p for p in points if p["status"] == "measured" and not p["latency_ms"])
    assert gone["reason"] == "the run directory is gone"
    best = rows(report / "best.csv")
    assert tuple(best[0]) == BEST_COLUMNS
    assert len(best) == len(found.best)
    won = next(
        b for b in best if b["model"] == "ViT-Ti/16" and b["image_size"] == "128" and b["device"].startswith("NVIDIA H100")
    )
    assert (won["setting"], won["runner_up"], won["clear"]) == ("bfloat16, attention flash", "bfloat16, attention math", "True")
    assert float(won["runner_up_ratio"]) == pytest.approx(1.3)


def test_the_summary_says_what_the_page_says(report: Path) -> None:
    told = json.loads((report / "summary.json").read_text())
    shown = page(report)
    assert shown.headline == told["headline"] == shown.title
    crossing = told["pairs"][0]["crossings"][0]
    number = re.search(r"interpolated at (\d+) px \(sampling alone: (\d+) to (\d+) px\)", told["headline"])
    assert number is not None
    assert [int(g) for g in number.groups()] == [round(crossing["size"][key]) for key in ("value", "low", "high")]
    table = shown.tables["crossings-table"]
    row = next(r for r in table if len(r) > 3 and r[3].text == "they cross")
    assert row[6].value == pytest.approx(crossing["size"]["value"])
    assert len(told["pairs"]) == 8
    assert {t["settings"][0] for t in told["like_for_like"]} == {
        "float32, attention math",
        "bfloat16, attention flash",
        "bfloat16, attention math",
    }


def test_the_reading_order(report: Path) -> None:
    assert [h for h in page(report).headings if h.endswith("?")] == [
        "Which model is faster where?", "Which setting won?", "At which image size do they cross?",
        "How much memory do they need, and what fits?", "What does an image cost?", "Does the amount of work explain the time?",
        "What has no time, and why?", "How was this measured?",
    ]  # fmt: skip


def test_the_matrix_names_the_faster_model_and_what_there_is_no_telling_of(found: Crossover, report: Path) -> None:
    matrix = page(report).tables["matrix-0-1-0"]
    cells = {row[0].text: [c.text for c in row[1:]] for row in matrix[1:]}
    assert cells["128"][0].startswith("● ViT-Ti/16 2.50x (")
    assert cells["512"][0].startswith("▲ ResNet-18 1.21x (")
    assert cells["1\u202f024"][3] == "▲ ResNet-18 alone; ● out of memory"
    assert cells["224"][4] == "no time: not run / failed"
    near = crossover(Sweep("", (timed(setting("vit"), around(10, 0.1)), timed(setting("cnn"), around(10.02, 0.1)))))
    (table,) = (t for t in tables_of(build(near)[0].blocks) if t.id.startswith("matrix"))
    assert table.rows[0].cells[1].text.startswith("no clear difference: 1.00x (")


def test_every_column_has_a_meaning_and_every_number_its_evidence(found: Crossover) -> None:
    sections = build(found)
    told = {(row.cells[0].text, row.cells[3].text) for row in glossary(sections).rows}
    for section in sections:
        for table in tables_of(section.blocks):
            if table.id.startswith("glossary"):
                continue
            for head in table.heads:
                assert meaning(head), (table.id, head.text)
                assert (head.text, meaning(head)) in told
                assert not head.numeric or head.evidence is not None, (table.id, head.text)
            assert all(len(row.cells) == len(table.heads) for row in table.rows), table.id


def test_one_setting_says_so_and_shows_no_runner_up() -> None:
    sections = {s.id: s for s in build(Lines().found())}
    (table,) = (t for t in tables_of(sections["settings"].blocks) if t.id == "best-table")
    assert not {"runner-up", "takes", "device"} & {h.text for h in table.heads}
    assert "untimed" not in sections
    assert any("No images per unit of currency: no price" in getattr(b, "text", "") for b in sections["cost"].blocks)
    assert any("not known; the largest that ran is 1." in getattr(b, "text", "") for b in sections["memory"].blocks)


@pytest.mark.parametrize(
    "points",
    [
        (),
        (Point(record(setting(), "failed", reason="x")),),
        (timed(setting(), around(5)),),
        (timed(setting(), [5.0] * 3), timed(setting("cnn"), [6.0] * 3)),
        tuple(timed(setting("vit", label=f"M{n}"), around(5 + n)) for n in range(12)),
        tuple(timed(setting(f, b, 224), around(5 + b)) for f in ("vit", "cnn") for b in range(1, 20)),
    ],
    ids=["none", "failed", "one", "few iterations", "twelve models", "batches"],
)
def test_any_sweep_becomes_a_page(points: tuple[Point, ...], tmp_path: Path) -> None:
    write_crossover_report(crossover(Sweep("", points)), tmp_path)
    assert page(tmp_path).headline
    json.loads((tmp_path / "summary.json").read_text())


def test_hostile_texts_are_only_shown(tmp_path: Path) -> None:
    device = msgspec.structs.replace(GPU, name=HOSTILE)
    points = [
        timed(
            setting(f, 1, size, label=HOSTILE + f, dtype=HOSTILE, attention=HOSTILE),
            around(size * k),
            device,
            attention_ran=HOSTILE,
        )
        for f, k in (("vit", 1), ("cnn", 1.5))
        for size in (64, 128)
    ]
    points.append(
        Point(
            record(
                setting("vit", 1, 256, label=HOSTILE),
                "failed",
                device,
                reason=HOSTILE,
                hint=HOSTILE,
                versions={HOSTILE: HOSTILE},
            )
        )
    )
    points.append(Point(record(setting("vit", 1, 512, layout=HOSTILE)), None, HOSTILE))
    write_crossover_report(crossover(Sweep(HOSTILE, tuple(points), (HOSTILE,))), tmp_path, (HOSTILE,))
    text = (tmp_path / "index.html").read_text()
    shown = page(tmp_path)
    assert len(shown.scripts) == 2
    assert not shown.handlers
    assert "<img" not in text
    assert "\u202e" not in text
    assert "\x00" not in text
    assert not [r for r in shown.references if not r.startswith("#")]
    assert len(shown.ids) == len(set(shown.ids))


def test_home_folders_stay_out(tmp_path: Path) -> None:
    lost = Point(record(setting(), "failed", reason="no file /home/alice/secret/model.py", hint="/root/x/y"))
    write_crossover_report(crossover(Sweep("", (lost,))), tmp_path)
    for file in tmp_path.iterdir():
        assert "alice" not in file.read_text()
        assert "/root" not in file.read_text()


def test_six_hundred_points_fit_on_a_page(tmp_path: Path) -> None:
    points = [
        timed(setting(f, b, s, dtype=d, layout=lay), around(b * s * k, 0.01))
        for f, k in (("vit", 1.0), ("cnn", 1.3))
        for b in (1, 2, 4, 8, 16)
        for s in range(64, 64 + 32 * 15, 32)
        for d in ("float32", "bfloat16")
        for lay in ("contiguous", "channels_last")
    ]
    assert len(points) == 600
    write_crossover_report(crossover(Sweep("", tuple(points))), tmp_path)
    assert (tmp_path / "index.html").stat().st_size < MAX_PAGE_BYTES
    assert len(rows(tmp_path / "points.csv")) == 600
    assert len(rows(tmp_path / "best.csv")) == 150


def test_a_page_that_would_be_too_large_says_what_is_left_out(tmp_path: Path) -> None:
    points = [
        timed(setting(f, b, s), around(b * s * k))
        for f, k in (("vit", 1.0), ("cnn", 1.3))
        for b in range(1, 41)
        for s in range(64, 64 + 32 * 15, 32)
    ]
    write_crossover_report(crossover(Sweep("", tuple(points))), tmp_path)
    text = (tmp_path / "index.html").read_text()
    assert len(text.encode()) < MAX_PAGE_BYTES
    assert "left out here to keep the page small" in text
    assert len(rows(tmp_path / "points.csv")) == 1200


def caveats_of(*points: Point, price: float | None = None) -> str:
    return " ".join(text for _, text, *_ in caveats(crossover(Sweep("", points, (), price))))


def test_models_under_different_settings_are_named_and_like_for_like_is_refused() -> None:
    vit, cnn = timed(setting("vit", dtype="bfloat16"), around(5)), timed(setting("cnn", dtype="float32"), around(10))
    text = caveats_of(vit, cnn)
    assert "different settings (ViT-Ti/16: bfloat16; ResNet-18: float32): a difference may be one of settings." in text
    assert "No like-for-like comparison is possible of ViT-Ti/16 and ResNet-18" in text
    found = crossover(Sweep("", (vit, cnn)))
    assert any("there is no like-for-like" in getattr(b, "text", "") for s in build(found) for b in s.blocks)
    both = caveats_of(vit, cnn, timed(setting("vit", dtype="float32"), around(9)))
    assert "ViT-Ti/16: bfloat16 / float32; ResNet-18: float32" in both
    assert "No like-for-like" not in both
    alike = caveats_of(timed(setting("vit", attention="flash"), around(5)), timed(setting("cnn"), around(6)))
    assert "different settings" not in alike


def test_caveats_of_price_processes_and_tf32() -> None:
    other = msgspec.structs.replace(GPU, name="NVIDIA A100")
    pair = [timed(setting(), [around(5)] * 5), timed(setting(), [around(5)] * 5, other)]
    assert "One price, 2.00 per hour, was taken for all 2 devices" in caveats_of(*pair, price=2.0)
    assert caveats_of(*pair) == ""
    assert "1 point was timed in one process each" in caveats_of(timed(setting(), around(5)))
    three = caveats_of(timed(setting(), [around(5)] * 3))
    assert "fewer than 5 processes each" in three
    assert "repeats=5 or more" in three
    assert "may have run as TF32" in caveats_of(timed(setting(), [around(5)] * 5, tf32_convolutions=True))


def test_peaks_of_different_kinds_are_drawn_and_listed_apart() -> None:
    points = [
        timed(setting(f, 1, s), around(s), peak_bytes=Quantity(s * 1e7, "bytes", Evidence.MEASURED, source=kind))
        for f, kind in (("vit", "CUDA allocator peak"), ("cnn", "CUDA allocator peak, reserved by CUDA graphs"))
        for s in (64, 128)
    ]
    (section,) = (s for s in build(crossover(Sweep("", tuple(points)))) if s.id == "memory")
    shown = {t.id: {row.cells[-1].text for row in t.rows} for t in tables_of(section.blocks) if t.id.startswith("memory-table")}
    assert shown == {
        "memory-table-0": {"CUDA allocator peak"},
        "memory-table-0-1": {"CUDA allocator peak, reserved by CUDA graphs"},
    }
    assert any("do not compare" in getattr(b, "text", "") for b in section.blocks)


def test_work_that_models_cover_in_part_is_marked() -> None:
    points = [timed(setting("vit", 1, s), around(s), modelled_pct=share) for s, share in ((64, 94.0), (128, 96.0))]
    (section,) = (s for s in build(crossover(Sweep("", tuple(points)))) if s.id == "work")
    (table,) = (t for t in tables_of(section.blocks) if t.id == "work-table")
    place = [h.text for h in table.heads].index("covered")
    assert [row.cells[place].text for row in table.rows] == ["94", "96"]
    assert table.note.startswith("1 row has work models for less than 95 % of the time")


def test_out_of_memory_is_marked_on_an_axis_of_batch_sizes_too() -> None:
    points = [timed(setting("vit", b), around(b)) for b in (1, 2)]
    points.append(Point(record(setting("vit", 4), "out_of_memory")))
    points.append(Point(record(setting("vit", 4, dtype="float16"), "unsupported")))
    found = crossover(Sweep("", tuple(points)))
    (panel,) = over_batch(found, 0, per_image_ms).panels
    assert panel.lost == ((0, 4.0),)


def test_the_fastest_of_all_names_models_without_a_time() -> None:
    labels = (("A", 10.0), ("B", 10.001), ("C", 20.0))
    points = [timed(setting("vit", 1, 64, label=label), around(ms, 0.05)) for label, ms in labels]
    points.append(timed(setting("vit", 2, 64, label="A"), around(5)))
    points.append(Point(record(setting("vit", 2, 64, label="B"), "out_of_memory")))
    points.append(Point(record(setting("vit", 4, 64, label="B"), "failed")))
    (table,) = (t for t in tables_of(build(crossover(Sweep("", tuple(points))))[0].blocks) if t.id == "fastest-0")
    assert [c.text for c in table.rows[0].cells[1:]] == [
        "no clear difference: ● A, ▲ B",
        "● A is the only one with a time (out of memory: ▲ B; not run: ■ C)",
        "no time (not run: ● A, ■ C; failed: ▲ B)",
    ]


@given(st.lists(st.floats(0, 2), min_size=1, max_size=8))
def test_names_of_lines_never_touch(wanted: list[float]) -> None:
    found = apart(sorted(wanted), 1.9)
    assert max(found) <= 1.9
    assert all(b - a >= 0.15 - 1e-9 for a, b in pairwise(found))


@given(st.floats(1e-3, 1e4), st.floats(1.02, 1e5))
def test_an_axis_has_a_few_round_marks_within_it(low: float, factor: float) -> None:
    found = steps((low, low * factor))
    assert 2 <= len(found) <= 12
    assert all(low * (1 - 1e-9) <= mark <= low * factor * (1 + 1e-9) for mark in found)
    assert found == sorted(set(found))


def test_a_short_axis_is_marked_in_even_steps() -> None:
    assert steps((0.93, 1.32)) == pytest.approx([1.0, 1.1, 1.2, 1.3])
    assert steps((0.9, 120.0)) == pytest.approx([1.0, 10.0, 100.0])


def settings(*runs: str, **changes: Any) -> Settings:
    return replace(Settings("crossover", (), CaptureSettings()), runs=runs, **changes)


def test_the_task_reads_a_sweep_and_survives_damaged_runs(tmp_path: Path) -> None:
    vit, cnn = write_run(tmp_path, Fake()), write_run(tmp_path, Fake(family="cnn", latency_ms=3.7))
    broken = tmp_path / "broken"
    shutil.copytree(vit, broken)
    (broken / "trace.pt.trace.json.gz").write_bytes(b"no trace")
    made = [record(setting(f, 32, 224), run=run.name, key=k) for f, run, k in (("vit", vit, "a" * 32), ("cnn", cnn, "b" * 32))]
    made.append(record(setting("vit", 32, 256), run=broken.name, key="c" * 32))
    for one in made:
        store(tmp_path, one)
    folder = sweep(tmp_path, [["x=1"], ["x=2"]], {0: [letter * 32 for letter in "abc"]}, price=3.0)
    out = write_crossover(settings(out=tmp_path / "report"), folder, Reporter(quiet=True))
    assert out.document["headline"].startswith("ViT-Ti/16 takes 1.46x as long as ResNet-18 at 224 px; batch 32")
    points = {p["key"][0]: p for p in rows(tmp_path / "report" / "points.csv")}
    assert float(points["a"]["latency_ms"]) == pytest.approx(5.4, rel=0.02)
    assert points["c"]["reason"]
    assert str(tmp_path) not in points["c"]["reason"]
    assert float(points["b"]["images_per_price"]) == pytest.approx(float(points["b"]["images_per_s"]) * 1200)
    assert out.document["missing"] == ["x=2"]
    again = task(settings(str(vit), str(tmp_path / "*"), out=tmp_path / "report"), Reporter(quiet=True))
    assert len(rows(tmp_path / "report" / "points.csv")) == 3
    assert again.exit_code == 0


def test_the_task_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="runs= is missing"):
        task(settings(), Reporter(quiet=True))
    with pytest.raises(ConfigError, match="no sweep, point or run matches"):
        task(settings(str(tmp_path / "*")), Reporter(quiet=True))
    store(tmp_path, record(setting(), "failed"))
    plan = task(settings(str(tmp_path / "points"), dry_run=True), Reporter(quiet=True))
    assert plan.document == {"points": 1, "missing": []}


def test_bests_follow_the_order_of_the_page(found: Crossover) -> None:
    assert [(b.device, b.batch, b.size, b.model) for b in find_best(found.grid, Draws())] == sorted(
        (b.device, b.batch, b.size, b.model) for b in found.best
    )


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(chromium: Any, report: Path, scheme: str) -> None:
    with Opened(chromium, report, color_scheme=scheme) as opened:
        opened.page.keyboard.press("e")
        opened.page.wait_for_timeout(100)
        assert opened.requests == [opened.url]
        assert not opened.messages
        assert_accessible(opened.page)
        assert_no_sideways_scroll(opened.page)
