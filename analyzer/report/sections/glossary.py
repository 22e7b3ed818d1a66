"""What the columns of the tables of a page mean, from their declarations."""

from __future__ import annotations

from collections.abc import Iterable

from analyzer.report.blocks import Cell, Head, Row, Section, Table, badge, tables_of

HEADS = (
    Head("column"),
    Head("unit"),
    Head("evidence"),
    Head("meaning"),
    Head("section"),
)
WORDS = {
    "run": "the run that the row is about, by the label of its model or the name of its trace",
    "model": "the model that the row is about",
    "kind": "what the kernel or operator does, named by fixed rules from its operator and its own name",
    "operator": "the PyTorch operator that launched the kernels, without its namespace; on a CPU the operator itself",
    "kernel": "name of the kernel without its arguments",
    "operator or kernel": "the operator that launched the kernel, where it is known, else the kernel",
    "operator · kernel": "operator that launched the kernel, and the kernel's name without its arguments",
    "module": "the part of the model that ran, by its path; * stands for any number",
    "input shapes": "sizes of the inputs of the operator, as the trace has them",
    "shapes": "sizes of the operands",
    "pattern": "the order in which an operator touches memory: product, convolution, attention and so on",
    "GPU": "the GPU whose datasheet and cache model are used",
    "evidence": "where the figure of the row comes from; the five words are explained at the end of the page",
    "source": "where the figure was read or measured",
    "limited by": "the resource that allows no more warps: registers, shared memory, threads, blocks, or the grid",
    "why": "the reason",
    "note": "what has to be known about the row",
    "unit": "the unit of the figures of the row",
    "cause": "why time is spent: work at the limits of the device, what goes beyond it, or waiting",
    "step": "iteration of the model, by the profiler's ProfilerStep marks",
    "level": "a memory of the device, from the smallest and fastest to the largest",
    "last cache before DRAM": "the largest cache, whose misses go to the main memory of the device",
    "device": "the device whose memory is counted",
    "what is counted": "whether the curve starts from all that was allocated or from the first event of the trace",
    "rule": "the test that was made, by its name in the source",
    "looks for": "what the test would find",
    "found in": "the runs in which it found that",
}
"""Meanings of columns that hold words and are called the same in many tables."""


def meaning(head: Head) -> str:
    """Return what a column means, empty where nobody says."""
    return head.meaning or ("" if head.numeric else WORDS.get(head.text, ""))


def glossary(sections: Iterable[Section]) -> Table:
    """Return a row for each different column of the tables of ``sections``, with the sections that it stands in."""
    found: dict[tuple[Head, str], list[str]] = {}
    for section in sections:
        for table in tables_of(section.blocks):
            for head in table.heads:
                if text := meaning(head):
                    places = found.setdefault((Head(head.text, head.unit, head.numeric, head.evidence), text), [])
                    places += [section.short] if section.short not in places else []
    rows = tuple(
        Row(
            (
                Cell(head.text),
                Cell(head.unit or "–"),
                badge(head.evidence) if head.evidence else Cell("–"),
                Cell(text),
                Cell(", ".join(places)),
            )
        )
        for (head, text), places in found.items()
    )
    return Table("glossary", "Columns of the tables of this page, in the order of the page", HEADS, rows)
