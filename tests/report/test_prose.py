"""Prose equals data: every number in the headline, the reason and the reasons of a finished page, worked out again from its files.

Nothing here asks the code that wrote the sentences: sums and ratios are taken from ``summary.json`` and written as the page's
format has them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analyzer import format as fmt
from analyzer.analysis import analyze, compare
from analyzer.insight import ledger
from analyzer.report.render import write_report
from analyzer.schema.evidence import Evidence, Quantity
from tests.report.markup import read

NUMBER = re.compile(r"(?<![\w./-])[+−<>]{0,2}\d[\d.\u202f]*(?:x|\u00a0?\s?(?:%|ms|µs|s)(?!\w))")
"""A number with a unit, as prose has it; names of models and devices have none."""


def numbers(text: str) -> list[str]:
    return [found.replace("\u00a0", " ").lstrip("+−") for found in NUMBER.findall(text)]


def amounts(values: list[float]) -> set[str]:
    """The ways in which times in microseconds are written, without their sign."""
    return {fmt.milliseconds(abs(value)) for value in values}


def sums(gap: dict[str, Any], key: str, *, only: str = "") -> dict[str, float]:
    out: dict[str, float] = {}
    for part in gap["parts"]:
        if part["explained"] and (only != "named" or part["named"]):
            out[part[key]] = out.get(part[key], 0.0) + part["first_us"] - part["second_us"]
    return out


def waiting(run: dict[str, Any]) -> float:
    """The share of time in which a GPU does nothing: of the untraced median where there is one."""
    busy, wall = run["busy_us"]["value"], run["wall_us"]["value"]
    if run["latency_ms"] and run["steps"]:
        untraced = 1e3 * run["latency_ms"]["median"]
        return 100 * min(max(untraced - busy / run["steps"], 0.0), run["idle_us"]["value"] / run["steps"]) / untraced
    return 100 * run["idle_us"]["value"] / wall


def allowed_in_reason(told: dict[str, Any]) -> set[str]:
    gap = told["gap"]
    total = gap["first_us"] - gap["second_us"]
    parts = [p["first_us"] - p["second_us"] for p in gap["parts"]]
    assert sum(parts) == pytest.approx(total, abs=1e-9 * max(gap["first_us"], gap["second_us"]))
    open_by: dict[tuple[str, str], float] = {}
    for part, delta in zip(gap["parts"], parts, strict=True):
        if not part["named"]:
            key = (part["role"], "") if part["explained"] else (part["kind"], part["term"])
            open_by[key] = open_by.get(key, 0.0) + delta
    share = 100 * sum(map(abs, open_by.values())) / abs(total)
    kinds, causes = (
        sorted(sums(gap, "kind").values(), key=abs),
        sorted(sums(gap, "term", only="named").values(), key=abs),
    )
    idle = {fmt.percent(waiting(run)) for run in told["runs"] if run["device_type"] == "cuda"}
    open_us = sum(map(abs, open_by.values()))
    # what the traces contradict: the kernels' part of the difference, and what scaling the waiting could not account for
    tracing = sum(part["delta_us"] for part in gap["parts"] if part["kind"] == ledger.TRACING)
    kernels = sum(part["delta_us"] for part in gap["parts"] if part["kind"] not in (ledger.WAITING, ledger.TRACING))
    contradicted = ([kernels] if kernels * total < 0 else []) + ([tracing] if abs(tracing) > abs(total) else [])
    return amounts([total, open_us, *kinds[-2:], *causes[-2:], *contradicted]) | {fmt.percent(share)} | idle | {"2 %"}


def allowed_in_headline(told: dict[str, Any]) -> set[str]:
    ratio, gap = told["ratio"], told["gap"]
    if ratio is None:
        low, high = sorted((gap["first_us"], gap["second_us"]))
        return {f"{high / low:.2f}x", *amounts([low, high])}
    out: set[str] = set()
    for value, low, high in (
        (ratio["value"], ratio["low"], ratio["high"]), (1 / ratio["value"], 1 / ratio["high"], 1 / ratio["low"]),
    ):  # fmt: skip
        shown = Quantity(value, "x", Evidence.DERIVED, low, high)
        out |= {fmt.times(shown), *fmt.interval(shown).split(" to ")}
    medians = [run["latency_ms"]["median"] for run in told["runs"]]
    assert ratio["value"] == pytest.approx(medians[0] / medians[1])
    return out


def check(directory: Path) -> None:
    told = json.loads((directory / "summary.json").read_text())
    page = read((directory / "index.html").read_text())
    assert page.headline == told["headline"]
    assert told["reason"] in page.text
    found = numbers(page.headline)
    assert set(found) <= allowed_in_headline(told), (found, page.headline)
    in_reason = numbers(told["reason"])
    assert in_reason
    assert set(in_reason) <= allowed_in_reason(told), (in_reason, allowed_in_reason(told))
    kinds = sums(told["gap"], "kind")
    ranked = sorted(kinds, key=lambda kind: -abs(kinds[kind]))
    assert told["reasons"]
    for reason, kind in zip(told["reasons"], ranked, strict=False):
        assert reason["text"] in page.text
        terms = [p["first_us"] - p["second_us"] for p in told["gap"]["parts"] if p["kind"] == kind and p["explained"]]
        first, *more = numbers(reason["text"])
        assert first in amounts([kinds[kind]]), (reason, kinds[kind])
        assert set(more) <= amounts(terms), (reason, terms)


WAITING = ("host", "loader", "sync", "launch", "untold", "dispatch", "between")
OF_WAITING = ("host_bound", "synchronising", "data_loading", "processor_dispatch")
"""Rules whose saving is time without work on the device, so that it cannot exceed what the ledger has of it."""


def check_findings(directory: Path) -> None:
    """What findings say against the ledger, the kernels and the runs: other tables than those that they were made from."""
    told = json.loads((directory / "summary.json").read_text())
    ledger, kernels = (pd.read_csv(directory / f"{name}.csv") for name in ("ledger", "kernels"))
    text = read((directory / "index.html").read_text()).text.replace("\u00a0", " ")
    runs = {run["name"]: run for run in told["runs"]}
    for finding in told["findings"]:
        run = runs[finding["run"]]
        steps = run["steps"] or 1
        mine, rows = ledger[ledger["run"] == run["name"]], kernels[kernels["run"] == run["name"]]
        whole = mine["us"].sum()
        assert finding["title"] in text
        if finding["saving"] is None:
            continue
        low, high = finding["saving"]["low"], finding["saving"]["high"]
        assert 0 <= low <= high, finding
        assert high <= max(whole, run["wall_us"]["value"] / steps) * 1.001, finding
        if finding["rule"] in OF_WAITING:
            most = mine.loc[mine["term"].isin(WAITING), "us"].sum()
            assert high <= most * 1.001 + 0.01, (finding["rule"], high, most)
        elif finding["rule"] not in ("power_cap", "thermal_throttle", "unsteady_latency", "processor_cores", "pageable_copies"):
            assert high <= rows["time_us"].sum() * 1.001, finding


@pytest.mark.parametrize("name", ["gpu", "cpu", "single"])
def test_findings_agree_with_the_other_tables(reports: dict[str, Path], name: str) -> None:
    check_findings(reports[name])


@pytest.mark.parametrize("name", ["gpu", "cpu"])
def test_every_number_of_the_verdict_is_worked_out_again(reports: dict[str, Path], name: str) -> None:
    check(reports[name])


@pytest.mark.parametrize(
    "names",
    [
        ("tracelens_h100_vit_nsfw_infer", "kineto_v100_resnet50_train_nw0"),
        ("saf_a100_sam_amg_vith_fast", "tracelens_mi300_vit_nsfw_infer"),
        ("tracelens_b200_eager", "param_rtx2080ti_resnet_train"),
    ],
)
def test_and_of_public_traces(public_traces: Path, tmp_path: Path, names: tuple[str, str]) -> None:
    study = compare(*(analyze(public_traces / f"{name}.json.gz") for name in names))
    write_report(study, tmp_path)
    if "do not both divide into steps" in study.verdict.headline:
        told = json.loads((tmp_path / "summary.json").read_text())
        assert set(numbers(told["headline"])) <= allowed_in_headline(told)
    else:
        check(tmp_path)
    check_findings(tmp_path)


def test_the_checker_finds_a_number_that_is_not_in_the_data(reports: dict[str, Path], tmp_path: Path) -> None:
    for file in ("summary.json", "index.html"):
        (tmp_path / file).write_bytes((reports["gpu"] / file).read_bytes())
    check(tmp_path)
    told = json.loads((tmp_path / "summary.json").read_text())
    first = numbers(told["reason"])[0]
    for file in ("summary.json", "index.html"):
        text = (tmp_path / file).read_text()
        assert first in text
        (tmp_path / file).write_text(text.replace(first, "77.7 ms"))
    with pytest.raises(AssertionError):
        check(tmp_path)
