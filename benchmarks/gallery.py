"""``python -m benchmarks.gallery``: makes the sample report and the README's pictures from the runs in traces/reference.

Needs Chromium; run it from the top of the checkout when a reference run was added or the page changed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

SAMPLE = Path("reports/sample")
REFERENCE = Path("traces/reference")
PAIR = ("amd_epyc/vit_base-512-b1-float32", "amd_epyc/convnext_base-512-b1-float32")
"""The runs of the sample report, below traces/reference."""
WIDTH_PX = 1000
COLOURS = 128
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


def sample(out: Path) -> Path:
    """Write the report of PAIR into ``out`` and return its page."""
    runs = ",".join((REFERENCE / name).as_posix() for name in PAIR)
    return _page("task=report", f"runs=[{runs}]", out)


def comparison(out: Path) -> Path:
    """Write the comparison of all reference runs into ``out`` and return its page."""
    return _page("task=compare", f"runs={REFERENCE.as_posix()}/*", out)


def _page(task: str, runs: str, out: Path) -> Path:
    subprocess.run([sys.executable, "-m", "analyzer", task, runs, f"out={out.as_posix()}"], check=True)
    return out / "index.html"


def photograph(page: Any, html: Path, until: str, picture: Path, since: str = "body") -> None:
    """Save ``html`` from the top of the element ``since`` to the end of the element ``until`` as a picture of few colours."""
    page.goto(html.resolve().as_uri())
    top, end = (page.locator(selector).first.bounding_box() for selector in (since, until))
    height = end["y"] + end["height"] - top["y"] + 12
    page.screenshot(path=picture, full_page=True, clip={"x": 0, "y": top["y"], "width": WIDTH_PX, "height": height})
    with Image.open(picture) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(picture, optimize=True)


def main() -> int:
    """Make all of it."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": WIDTH_PX, "height": 1000})
        shutil.rmtree(SAMPLE, ignore_errors=True)
        one, many = sample(SAMPLE), comparison(Path(folder) / "comparison")
        photograph(page, one, "#gap figure svg", Path("docs/report.png"))
        photograph(page, one, "#access figure svg", Path("docs/access.png"), "#access figure")
        photograph(page, many, "#moves figure svg", Path("docs/comparison.png"), "#moves")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
