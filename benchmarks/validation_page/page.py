"""The page, section by section."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.validation_page.devices import counters_section, published_section, telemetry_section
from benchmarks.validation_page.models import (
    bytes_section,
    flop_section,
    occupancy_section,
    projection_section,
    validation_of_runs,
)
from benchmarks.validation_page.runs import Reference
from benchmarks.validation_page.times import (
    attention_section,
    compiled_section,
    cost_section,
    ratio_section,
    runs_section,
)

INTRODUCTION = """\
# Validation

What the runs in [traces/reference](../traces/reference) measured, beside what the models say of them. Written by
`python -m benchmarks.validation_page` from these runs alone; `--check` tells whether this page is what they give.

A figure is *measured*, *derived* (arithmetic on measured ones) or *modelled* (with ≈). Brackets hold 95 % intervals; where that
of a ratio holds 1, the runs do not tell the two apart. Misses are in bold. What nobody measured yet is named, with the command
that brings it."""


def render_page(runs: Sequence[Reference]) -> str:
    """Return the page as Markdown."""
    validation = validation_of_runs(runs)
    sections = (
        runs_section(runs),
        ratio_section(runs),
        attention_section(runs),
        compiled_section(runs),
        counters_section(runs),
        flop_section(runs, validation),
        occupancy_section(runs, validation),
        bytes_section(validation),
        projection_section(runs),
        telemetry_section(runs),
        published_section(runs),
        cost_section(runs),
    )
    return "\n\n".join((INTRODUCTION, *(section.render() for section in sections))) + "\n"
