"""The sections of a page in their order. A section is one function from a study to its blocks, or to None to be left out."""

from __future__ import annotations

from collections.abc import Callable

from analyzer.report.blocks import Section
from analyzer.report.sections import access, busy, gap, kernels, method, occupancy, roofline, steady, time
from analyzer.schema.results import Study

SECTIONS: tuple[Callable[[Study], Section | None], ...] = (
    gap.section,
    time.section,
    busy.section,
    roofline.section,
    access.of_study,
    occupancy.section,
    kernels.section,
    steady.section,
    method.section,
)


def build(study: Study) -> tuple[Section, ...]:
    """Return the sections that this study has something to say in."""
    found = (make(study) for make in SECTIONS)
    return tuple(section for section in found if section is not None)
