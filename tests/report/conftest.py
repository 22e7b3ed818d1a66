"""Reports on made-up runs, written once per process, and a browser to open them in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analyzer.analysis import analyze, compare
from analyzer.report.render import write_report
from analyzer.schema.results import Study
from tests.report.synthetic import Fake, write_run

CHROMIUM_ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def make_study(root: Path, *fakes: Fake) -> Study:
    return compare(*(analyze(write_run(root, fake)) for fake in fakes))


@pytest.fixture(scope="session")
def gpu_pair(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = tmp_path_factory.mktemp("gpu")
    return make_study(root, Fake(held=True), Fake(family="cnn", latency_ms=3.7, idle_us=40.0))


@pytest.fixture(scope="session")
def cpu_pair(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = tmp_path_factory.mktemp("cpu")
    return make_study(root, Fake(device="cpu"), Fake(family="cnn", device="cpu", latency_ms=9.0))


@pytest.fixture(scope="session")
def gpu_single(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("single"), Fake())


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory, gpu_pair: Study, cpu_pair: Study, gpu_single: Study) -> dict[str, Path]:
    """Directories of finished reports by name."""
    out = {}
    for name, found in (("gpu", gpu_pair), ("cpu", cpu_pair), ("single", gpu_single)):
        out[name] = tmp_path_factory.mktemp(f"report-{name}")
        write_report(found, out[name])
    return out


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running Chromium; without one the tests skip, except in CI."""
    path = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        _without("playwright is not installed")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        except Error as error:
            _without(f"no Chromium to open pages in: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


def _without(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
