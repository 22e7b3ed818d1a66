"""Writes one Kineto trace many times after one another into a single valid trace: long traces from short real ones.

Each copy is later in time than the one before and has ids of its own, so that links never cross copies. The text of every
event is the source's, but for its times and ids. Memory does not grow with the number of copies.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks.template import Template, read_template

COMPRESSION = 2


@dataclass(frozen=True, slots=True)
class Replica:
    """How much has been written: bytes before compression, and events."""

    raw_bytes: int
    events: int


def _fill_template(template: Template, copies: int) -> Iterator[str]:
    yield template.head + template.lead
    for text in template.once:
        yield f"{text},{template.lead}"
    for copy in range(copies):
        for number, block in enumerate(template.blocks):
            values = tuple(value + copy * stride for value, stride in zip(block.values, block.strides, strict=True))
            text = block.text % values
            yield f",{template.lead}{text}" if copy or number else text
    yield template.tail


def write_replica(source: Path, copies: int, out: Path) -> Replica:
    """Write the trace at ``source`` ``copies`` times into ``out``, compressed where its name ends in ``.gz``."""
    template = read_template(source)
    part = out.with_name(f"{out.name}.part")
    written = 0
    with part.open("wb") as plain:
        file: IO[bytes] | gzip.GzipFile = plain
        if out.suffix == ".gz":
            file = gzip.GzipFile(filename="", mode="wb", compresslevel=COMPRESSION, fileobj=plain, mtime=0)
        for text in _fill_template(template, copies):
            data = text.encode("utf-8", errors="surrogateescape")
            written += len(data)
            file.write(data)
        if file is not plain:
            file.close()
    part.replace(out)
    return Replica(written, template.events * copies + len(template.once))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replicate", description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("copies", type=int)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    replica = write_replica(options.source, options.copies, options.out)
    print(f"{options.out.name}: {replica.events:,} events, {replica.raw_bytes / 1e6:,.1f} MB before compression")


if __name__ == "__main__":
    main()
