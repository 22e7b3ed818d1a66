"""Files of hardware counters: both forms of ``ncu --csv``, units, notations, odd and hostile files, ranges of old traces."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from analyzer.errors import TraceError
from analyzer.hardware.counters import groups
from analyzer.trace.counters import file, lines, page, read_counter_file
from analyzer.trace.counters.numbers import CommaError, Digits, NotationError, unit_scale
from tests.conftest import SHARED
from tests.trace.counter_files import ACTIVE, BYTES, COLUMNS, ROWS, TIME, Row, line, long_page, raw_page, write

CAPABILITIES = ("7.0", "7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "12.0")
SETS = SHARED / "data" / "ncu_metric_sets.json"


def check_rows(found: file.CounterFile) -> None:
    rows = found.rows
    assert rows["id"].tolist() == [0, 1]
    assert rows["kernel"].tolist() == ["gemm<(int)128>(float *)", "softmax"]
    assert (rows["grid"].tolist(), rows["block"].tolist()) == (["132,2,1", "16384,1,1"], ["256,1,1", "1024,1,1"])
    assert rows[BYTES].tolist() == [27_595_520.0, 4_096.0]
    assert rows[TIME].tolist() == [117_344.0, 2_848.0]
    assert rows[ACTIVE].tolist() == [45.5, 80.25]


@pytest.mark.parametrize("form", [raw_page, long_page])
def test_both_forms_are_read(tmp_path: Path, form) -> None:
    found = read_counter_file(write(tmp_path / "counters.csv", form(ROWS)))
    check_rows(found)
    assert set(found.metrics) == {BYTES, TIME, ACTIVE}
    assert (found.kind, found.tool, found.capability, found.mode, found.notes) == ("import", "Nsight Compute", "9.0", "", ())
    assert found.rows["device"].tolist() == ["0", "0"]


@pytest.mark.parametrize("options", [{"commas": False}, {"quoted": False, "commas": False}, {"units_row": False}])
def test_the_raw_page_is_read_however_it_is_printed(tmp_path: Path, options: dict[str, bool]) -> None:
    found = read_counter_file(write(tmp_path / "c.csv", raw_page(ROWS, **options)))
    check_rows(found)
    assert any("names no units" in note for note in found.notes) == (options.get("units_row") is False)


def test_columns_may_stand_in_any_order_and_lack_what_is_not_needed(tmp_path: Path) -> None:
    columns = (BYTES, "Kernel Name", TIME, "Grid Size", "ID", ACTIVE, "Block Size")
    check_rows(read_counter_file(write(tmp_path / "c.csv", raw_page(ROWS, columns=columns))))


@pytest.mark.parametrize("form", [raw_page, long_page])
def test_lines_of_ncu_and_of_the_program_are_passed_over(tmp_path: Path, form) -> None:
    text = form(ROWS).splitlines(keepends=True)
    noise = (
        '==PROF== Profiling "gemm": 0%....100% - 2 passes\nstep 1, loss 0.25\n{"a": 1, "b": "x"}\n"half a quote, and more\n\n'
    )
    found = read_counter_file(write(tmp_path / "c.csv", noise + "".join(entry + noise for entry in text)))
    check_rows(found)


def test_comments_tell_how_it_was_counted(tmp_path: Path) -> None:
    said = "==PROF== Nsight Compute 2025.3.1\n# ncu --cache-control none --clock-control none\n"
    found = read_counter_file(write(tmp_path / "c.csv", said + raw_page(ROWS)))
    assert (found.tool, found.mode) == ("Nsight Compute 2025.3.1", "warm")


@pytest.mark.parametrize("packing", ["gzip", "utf-8-sig", "utf-16"])
def test_packed_files_and_those_of_windows_are_read(tmp_path: Path, packing: str) -> None:
    text, path = raw_page(ROWS).replace("\n", "\r\n"), tmp_path / "c.csv"
    path.write_bytes(gzip.compress(text.encode()) if packing == "gzip" else text.encode(packing))
    check_rows(read_counter_file(path))


def test_rows_are_sorted_by_number_within_process_and_device(tmp_path: Path) -> None:
    rows = [Row(n, f"k{n}", {BYTES: n}, process=process) for process in (7, 3) for n in (2, 0, 11, 1)]
    found = read_counter_file(write(tmp_path / "c.csv", raw_page(rows)))
    assert found.rows["process"].tolist() == ["7"] * 4 + ["3"] * 4
    assert found.rows["id"].tolist() == [0, 1, 2, 11] * 2
    assert found.rows["kernel"].tolist() == ["k0", "k1", "k2", "k11"] * 2
    assert "Launches of 2 processes were counted" in found.notes[0]


def test_units_are_scaled_per_column_and_per_line(tmp_path: Path) -> None:
    rows = [Row(0, "k", {BYTES: 1.5, TIME: 12.5, "sm__cycles_elapsed.avg.per_second": 1.25})]
    units = {BYTES: "Gbyte", TIME: "usecond", "sm__cycles_elapsed.avg.per_second": "cycle/nsecond"}
    for form in (raw_page(rows, units=units), long_page(rows, units=units)):
        found = read_counter_file(write(tmp_path / "c.csv", form)).rows
        assert found[BYTES][0] == 1.5e9
        assert found[TIME][0] == 12_500.0
        assert found["sm__cycles_elapsed.avg.per_second"][0] == 1.25e9


@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("byte", 1), ("Kbyte", 1e3), ("Mbyte", 1e6), ("Gbyte", 1e9), ("Tbyte", 1e12), ("KB", 1e3), ("MB", 1e6), ("B", 1),
        ("nsecond", 1), ("usecond", 1e3), ("msecond", 1e6), ("second", 1e9), ("ns", 1), ("us", 1e3), ("ms", 1e6), ("s", 1e9),
        ("hz", 1), ("Khz", 1e3), ("Mhz", 1e6), ("Ghz", 1e9), ("cycle/nsecond", 1e9), ("cycle/usecond", 1e6),
        ("Gbyte/second", 1e9), ("Gbyte/s", 1e9), ("%", 1), ("", 1), ("inst", 1), ("Kinst", 1e3), ("Ksector", 1e3), ("sector", 1),
        ("Minst", 1e6), ("register/thread", 1), ("byte/block", 1), ("Kbyte/block", 1e3), ("inst/cycle", 1), ("warp", 1),
        ("Kfurlong", None),
    ],
)  # fmt: skip
def test_units(unit: str, scale: float | None) -> None:
    assert unit_scale(unit) == scale


def test_a_prefix_before_an_unknown_word_leaves_the_values_out(tmp_path: Path) -> None:
    found = read_counter_file(write(tmp_path / "c.csv", raw_page(ROWS, units={BYTES: "Kfurlong"})))
    assert found.rows[BYTES].isna().all()
    assert found.notes == (f"A unit is not known, so values were left out: Kfurlong of {BYTES}.",)


@pytest.mark.parametrize("cell", ["n/a", "nan", "(!) nan", "", "-nan", "inf", "CachePreferNone", "1_000", "1,23,4", "9" * 70])
def test_what_is_no_number_is_unavailable(cell: str) -> None:
    assert np.isnan(Digits().read(cell))


@pytest.mark.parametrize(
    ("cell", "value"),
    [("1,234", 1234), ("1,215,000,000.00", 1.215e9), ("0.117", 0.117), ("4.0e-05", 4e-5), ("12 (3; 4; 5)", 12), ("-2", -2)],
)
def test_plain_notation(cell: str, value: float) -> None:
    assert Digits().read(cell) == value


@pytest.mark.parametrize(
    ("cell", "value"),
    [("27.595.520", 27_595_520), ("65,77", 65.77), ("9,00", 9), ("1.234,5", 1234.5), ("0,123", 0.123), ("1\u202f234\u202f567,25", 1234567.25)],
)  # fmt: skip
def test_a_decimal_comma_is_recognised_where_it_is_provable(cell: str, value: float) -> None:
    with pytest.raises(CommaError):
        Digits().read(cell)
    assert Digits(comma=True).read(cell) == value


def european(text: str) -> str:
    return text.translate(str.maketrans(".,", ",."))


def test_a_file_with_decimal_commas_is_read(tmp_path: Path) -> None:
    values = {"27,595,520": "27.595.520", "117,344": "117.344", "45.500000": "45,50", "80.250000": "80,25", "4,096": "4.096"}
    text = raw_page(ROWS)
    for plain, comma in {**values, "2,848": "2.848"}.items():
        text = text.replace(f'"{plain}"', f'"{comma}"')
    found = read_counter_file(write(tmp_path / "c.csv", text))
    check_rows(found)
    assert found.notes == ("Numbers in the file have a decimal comma.",)


def test_numbers_that_can_be_read_in_two_ways_are_refused(tmp_path: Path) -> None:
    mixed = raw_page([Row(0, "k", {BYTES: "1.234,5", ACTIVE: "12.5"})])
    untold = raw_page([Row(0, "k", {BYTES: "117.344"})])  # bytes are whole, so this is a thousand or an oddity
    for text in (mixed, untold):
        with pytest.raises(TraceError, match="two ways") as error:
            read_counter_file(write(tmp_path / "c.csv", text))
        assert "LC_ALL=C" in error.value.hint
    with pytest.raises(NotationError):
        Digits(comma=True).read("12.5")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(132, 1, 1)", "132,1,1"), ("132,1,1", "132,1,1"), ("132", "132,1,1"), ("(16,384, 1, 1)", "16384,1,1"),
        ("132x2x1", "132,2,1"), ("(8, 4)", "8,4,1"), ("", ""), ("many", ""), ("1,2,3,4", ""),
    ],
)  # fmt: skip
def test_dimensions(text: str, expected: str) -> None:
    assert page.dimensions(text) == expected


def test_grid_and_block_come_from_launch_metrics_where_there_are_no_columns(tmp_path: Path) -> None:
    axes = {f"launch__{role}_dim_{axis}": n for role, ns in (("grid", (12, 3, 1)), ("block", (64, 4, 1))) for axis, n in zip("xyz", ns, strict=True)}  # fmt: skip
    rows = [Row(0, "k", {**axes, BYTES: 1})]
    bare = [c for c in COLUMNS if c not in ("Grid Size", "Block Size")]
    found = read_counter_file(write(tmp_path / "c.csv", raw_page(rows, columns=(*bare, *axes, BYTES)))).rows
    assert (found["grid"][0], found["block"][0]) == ("12,3,1", "64,4,1")
    totals = {"launch__grid_size": 36, "launch__block_size": 256}
    rows = [Row(0, "k", {**totals, BYTES: 1})]
    found = read_counter_file(write(tmp_path / "c.csv", raw_page(rows, columns=(*bare, *totals, BYTES)))).rows
    assert (found["grid"][0], found["block"][0]) == ("36", "256")


def metric_sets() -> list[tuple[str, str, tuple[str, ...]]]:
    sets = [(c, f"packaged {n}", tuple(g)) for c in CAPABILITIES for n, g in enumerate(groups(c, "bfloat16"))]
    if SETS.is_file():
        tiers = json.loads(SETS.read_text())["tiers"]
        sets += [
            (c, name, tuple(tier["metrics"])) for c in CAPABILITIES for name, tier in tiers[c].items()
            if isinstance(tier, dict) and "metrics" in tier
        ]  # fmt: skip
    return sets


@pytest.mark.parametrize(("capability", "metrics"), [pytest.param(c, m, id=f"{c} {n}") for c, n, m in metric_sets()])
def test_every_metric_set_of_every_capability(tmp_path: Path, capability: str, metrics: tuple[str, ...]) -> None:
    rows = [Row(n, f"k{n}", {m: 1_000_000.0 * n + i for i, m in enumerate(metrics)}, capability=capability) for n in range(3)]
    for form in (raw_page, long_page):
        found = read_counter_file(write(tmp_path / "c.csv", form(rows)))
        assert found.metrics == tuple(dict.fromkeys(metrics))
        assert found.capability == capability
        for row in rows:
            assert found.rows.loc[row.id, list(row.values)].tolist() == list(row.values.values())


def test_groups_of_metrics_leave_the_cells_of_others_empty(tmp_path: Path) -> None:
    rows = [Row(n, f"k{n}", {metric: 10 * n + p}, process=p) for p, metric in ((1, BYTES), (2, ACTIVE)) for n in range(2)]
    found = read_counter_file(write(tmp_path / "c.csv", raw_page(rows))).rows
    assert found[BYTES].tolist()[:2] == [1, 11]
    assert found[BYTES].isna().tolist() == [False, False, True, True]
    assert found[ACTIVE].tolist()[2:] == [2, 12]


def test_launches_that_stand_twice_are_used_once(tmp_path: Path) -> None:
    found = read_counter_file(write(tmp_path / "c.csv", raw_page([*ROWS, ROWS[1]])))
    check_rows(found)
    assert found.notes == ("1 launch stands twice in the file: the second line is left out.",)


def test_two_tables_in_one_file_are_two_sequences(tmp_path: Path) -> None:
    again = [Row(r.id, r.kernel, {BYTES: 5}, r.grid, r.block) for r in ROWS]
    found = read_counter_file(write(tmp_path / "c.csv", raw_page(ROWS) + raw_page(again)))
    assert found.rows["process"].tolist() == ["1", "1", "1 (2)", "1 (2)"]
    assert found.rows[BYTES].tolist() == [27_595_520, 4_096, 5, 5]


def test_columns_of_other_things_are_no_metrics(tmp_path: Path) -> None:
    extra = (
        "thread Domain:Push/Pop_Range:PL_Type",
        "device__attribute_clock_rate",
        "=cmd()__x",
        "a__<script>",
        "x" * 300 + "__y",
    )
    text = raw_page([Row(0, "k", dict.fromkeys((*extra, BYTES), 1))])
    assert read_counter_file(write(tmp_path / "c.csv", text)).metrics == (BYTES,)


def test_labels_of_the_page_of_details_are_the_metrics_that_they_show(tmp_path: Path) -> None:
    rows = [Row(0, "k", {"Duration": 2.5, "Achieved Occupancy": 40.5, "Memory Throughput": 12.25})]
    found = read_counter_file(write(tmp_path / "c.csv", long_page(rows, {"Duration": "us", "Achieved Occupancy": "%"})))
    assert set(found.metrics) == {TIME, ACTIVE}
    assert (found.rows[TIME][0], found.rows[ACTIVE][0]) == (2500.0, 40.5)


def test_launches_without_numbers_are_taken_in_order(tmp_path: Path) -> None:
    rows = [Row(0, "k", {BYTES: 1, TIME: 2}), Row(1, "k", {BYTES: 3, TIME: 4}), Row(2, "other", {BYTES: 5, TIME: 6})]
    without = [text.split(",", 1)[1] for text in long_page(rows).splitlines()]
    found = read_counter_file(write(tmp_path / "c.csv", "\n".join(without)))
    assert found.rows[[BYTES, TIME]].to_numpy().tolist() == [[1, 2], [3, 4], [5, 6]]
    assert "The launches have no numbers. They are taken in the order of the file." in found.notes


def test_lines_that_are_cut_off_are_told(tmp_path: Path) -> None:
    text = raw_page(ROWS)
    found = read_counter_file(write(tmp_path / "c.csv", text + '"2","1","python'))
    check_rows(found)
    assert found.notes == ("1 line is cut off or damaged and was left out.",)


OTHERS = {
    "x.ncu-rep": (b"NVR\0....", "ncu --import"),
    "x.csv": (b"NVR\0....", "ncu --import"),
    "x.sqlite": (b"SQLite format 3\0 and more", "--page raw"),
    "x.html": (b"<html><table></table></html>", "--page raw"),
    "trace.json": (b'{"traceEvents": []}', "--page raw"),
    "kernels.csv": (b"run,kernel,kind,role\na,b,c,d\n", "--page raw"),
    "nsys.csv": (b"Time (%),Total Time (ns),Instances,Name\n1,2,3,k\n", "--page raw"),
    "zip.csv": (b"PK\x03\x04", "unpack"),
    "empty.csv": (b"", "--page raw"),
    "nul.csv": (b'"ID","Kernel Name"\0\n', "UTF-8"),
    "cut.csv.gz": (gzip.compress(b"a,b\n" * 9999)[:-20], "--page raw"),
    "no_metrics.csv": (b'"ID","Kernel Name","Stream"\n"0","k","7"\n', "--page raw"),
    "denied.csv": (b"==ERROR== ERR_NVGPUCTRPERM - The user does not have permission\n", "task=doctor"),
    "none.csv": (b"==WARNING== No kernels were profiled.\n", "--page raw"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_end_in_one_line_and_a_hint(tmp_path: Path, name: str) -> None:
    content, hint = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TraceError) as error:
        read_counter_file(tmp_path / name)
    assert hint in error.value.hint
    assert "\n" not in error.value.message


@pytest.mark.parametrize("name", ["missing.csv", ".", "bad\0name.csv"])
def test_files_that_are_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(TraceError):
        read_counter_file(tmp_path / name)


def test_hostile_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(gzip.compress(b"x" * (100 << 20)))  # a single line of 100 MB
    with pytest.raises(TraceError, match="line of more than 1 MiB"):
        read_counter_file(path)
    monkeypatch.setattr(lines, "MAX_FILE_BYTES", 1000)
    path.write_bytes(gzip.compress(b"a,b\n" * 1000))
    with pytest.raises(TraceError, match="unpacks to more"):
        read_counter_file(path)
    path.write_bytes(b"a,b\n" * 1000)
    with pytest.raises(TraceError, match="larger than"):
        read_counter_file(path)
    monkeypatch.undo()
    monkeypatch.setattr(page, "MAX_ROWS", 1)
    with pytest.raises(TraceError, match="more launches"):
        read_counter_file(write(path, raw_page(ROWS)))


def test_hostile_cells_stay_text(tmp_path: Path) -> None:
    names = ['=cmd|"/c calc"!A1', "<script>alert(1)</script>", 'a ""quoted"" "name"', "x" * 90_000, "\u202egnp.exe", "a,b,c"]
    rows = [Row(n, name, {BYTES: n}) for n, name in enumerate(names)]
    found = read_counter_file(write(tmp_path / "c.csv", raw_page(rows)))
    assert found.rows["kernel"].tolist() == names
    path = tmp_path / "latin.csv"
    path.write_bytes(raw_page(ROWS).replace("host", "h\u00f6st").encode("latin-1"))
    check_rows(read_counter_file(path))


def test_nothing_of_the_machine_reaches_the_table(tmp_path: Path) -> None:
    found = read_counter_file(write(tmp_path / "c.csv", raw_page(ROWS)))
    assert "host" not in found.rows.to_csv()
    assert "python3.11" not in found.rows.to_csv()


def test_the_lines_of_a_table_need_no_quotes() -> None:
    assert line(["a", "b,c"], quoted=False) == 'a,"b,c"\n'
