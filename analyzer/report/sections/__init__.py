"""The sections of a page in their order. A section is one function from a study to its blocks, or to None to be left out."""

from __future__ import annotations

from collections.abc import Callable

from analyzer.report.blocks import Section
from analyzer.report.origin import Origin
from analyzer.report.sections import (
    access,
    busy,
    counters,
    findings,
    fusion,
    gap,
    host,
    kernels,
    memory,
    method,
    occupancy,
    roofline,
    steady,
    time,
)
from analyzer.schema.results import Study

SECTIONS: tuple[Callable[[Study], Section | None], ...] = (
    gap.section,
    fusion.section,
    time.section,
    busy.section,
    roofline.section,
    memory.section,
    access.of_study,
    occupancy.section,
    counters.section,
    kernels.section,
    host.section,
    findings.section,
    steady.section,
)


def build(study: Study, origin: Origin | None = None) -> tuple[Section, ...]:
    """Return the sections that this study has something to say in; the last one tells how all others came about."""
    found = tuple(section for section in (make(study) for make in SECTIONS) if section is not None)
    return (*found, method.section(study, found, origin or Origin()))
