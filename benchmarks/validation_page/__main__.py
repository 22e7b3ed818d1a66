"""``python -m benchmarks.validation_page [--check]``: writes docs/validation.md from traces/reference, or compares with it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.validation_page.page import render_page
from benchmarks.validation_page.runs import REFERENCE, ROOT, read_references

PAGE = ROOT / "docs" / "validation.md"


def main(given: list[str]) -> int:
    """Write the page, or compare; return the exit code: 1 where ``--check`` finds another page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation_page", description="Writes docs/validation.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is not what would be written")
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="the folder of the reference runs")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page")
    chosen = parser.parse_args(given)
    text = render_page(read_references(chosen.reference))
    if not chosen.check:
        chosen.out.write_text(text, encoding="utf-8")
        print(f"{chosen.out.name}: {len(text.splitlines())} lines")
        return 0
    if chosen.out.is_file() and chosen.out.read_text(encoding="utf-8") == text:
        print(f"{chosen.out.name} is what the reference runs give")
        return 0
    print(f"error: {chosen.out.name} is not what the reference runs give; `python -m benchmarks.validation_page` writes it")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
