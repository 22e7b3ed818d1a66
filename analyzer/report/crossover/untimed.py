"""What has no time, and how the rest was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from analyzer.format import counted
from analyzer.insight.crossover.contests import STATUS_WORDS
from analyzer.insight.crossover.figures import NO_TIME
from analyzer.insight.crossover.grid import Entry
from analyzer.insight.crossover.result import Crossover
from analyzer.report.blocks import Block, Cell, Folded, Head, Listing, Notice, Prose, Row, Section, Table
from analyzer.report.crossover.cells import BATCH, DEVICE, MODEL, SETTING, SIZE, device, signed_name, trim, whole
from analyzer.report.sections.glossary import glossary
from analyzer.report.sections.method import approximations
from analyzer.report.text import clean

UNTIMED_ID, METHOD_ID = "untimed", "method"
OPEN_ROWS, MAX_VALUES = 20, 12
_OUTCOMES = (
    "out of memory; unsupported: model, device or library refuse these settings; failed: anything else, tried again when the "
    "sweep is repeated; no figures: its run cannot be read"
)
FORMULAS = (
    ("time", "median of the untraced iterations of all processes of a point; traced iterations count for work alone"),
    ("interval", "2.5th to 97.5th percentile of 2000 medians of resampled times: processes first, then the times within each"),
    (
        "ratio",
        "median of one over median of the other; its interval is that of the ratios of the draws, widened to Student's t of "
        "the medians of the processes where there are two to five",
    ),
    ("clear difference", "the interval of the ratio leaves 1 out, and the ratio is 2 % or more from 1"),
    ("images per second", "batch size / time"),
    (
        "crossing",
        "ln s* = ln s1 + (ln s2 − ln s1) × d1 / (d1 − d2), with d the logarithm of the ratio of the times at two neighbouring "
        "sizes s1 and s2; its interval is that of the draws",
    ),
    ("best setting", "the setting with the smallest median of those that a model was run under at one batch and image size"),
    ("images per joule", "batch size / (mean power of the device during the untraced pass × time)"),
    ("images per unit of currency", "images per second × 3600 / price of an hour"),
    ("delivered FLOP/s", "FLOP of one image, from operator shapes (a multiply-add counts 2) / time of one image"),
)


def reason_of(entry: Entry) -> str:
    """Return why a point has no time, fit to be shown."""
    record = entry.point.record
    if entry.point.problem:
        return clean(entry.point.problem, 300)
    return clean(record.reason, 300) or (NO_TIME if record.status == "measured" else "no reason was recorded")


def status_of(entry: Entry) -> str:
    """Return what came of a point, in words."""
    if entry.point.record.status == "measured":
        return "measured" if entry.latency_ms is not None else "no figures"
    return STATUS_WORDS[entry.point.record.status]


def section(found: Crossover) -> Section | None:
    """Return the points without a time, each with its reason; None where every point has one."""
    untimed = [e for e in found.grid.entries if e.latency_ms is None]
    if not untimed and not found.sweep.missing:
        return None
    blocks: list[Block] = []
    if untimed:
        rows = tuple(_row(e, found) for e in untimed)
        heads = (
            MODEL, DEVICE, BATCH, SIZE, SETTING,
            Head("what came of it", meaning=_OUTCOMES),
            Head("reason", meaning="what the model, the device or the library said"),
            Head("what helps", meaning="what the error suggests to do"),
        )  # fmt: skip
        blocks.append(trim(Table("untimed-table", "Points without a time", heads, rows, open_rows=OPEN_ROWS), found))
    if found.sweep.missing:
        items = tuple(("overrides", clean(text, 300)) for text in found.sweep.missing[:50])
        more = len(found.sweep.missing) - len(items)
        blocks.append(Listing(f"Not run ({len(found.sweep.missing)})", items))
        blocks += [Prose(f"{counted(more, 'more is', 'more are')} left out here.")] if more > 0 else []
        blocks.append(Notice("The same command measures what is missing; points that have a result are not measured again."))
    return Section(UNTIMED_ID, "What has no time, and why?", "No time", tuple(blocks))


def _row(entry: Entry, found: Crossover) -> Row:
    words = clean(found.grid.words(entry.variant, found.grid.models[entry.model].family), 120)
    return Row(
        (
            Cell(signed_name(found, entry.model)), Cell(device(found, entry.device, 28)), whole(entry.batch), whole(entry.size),
            Cell(words), Cell(status_of(entry)), Cell(reason_of(entry)), Cell(clean(entry.point.record.hint, 200) or "–"),
        )
    )  # fmt: skip


def method(found: Crossover, others: Iterable[Section], command: tuple[str, ...]) -> Section:
    """Return settings, versions, formulas, approximations, the command and the glossary. ``others``: the sections before."""
    own = tuple((place, text) for place, text in approximations() if place.startswith("insight/crossover"))
    blocks: list[Block] = [
        Prose(
            "Each point is one model under one set of settings, measured in processes of its own, one point at a time on a "
            "device. Times come from iterations without the profiler; a traced pass tells FLOP and bytes."
        ),
        _facts(found),
        Listing("Formulas", FORMULAS),
        Listing("Approximations", own or (("", "none"),)),
    ]
    if command:
        blocks.append(Listing("How to reproduce", (("", clean(" ".join(command), 600)),), code=True))
    section_ = Section(METHOD_ID, "How was this measured?", "Method", tuple(blocks))
    explained = Folded("Glossary of the tables", (glossary((*others, section_)),))
    return replace(section_, blocks=(*section_.blocks, explained))


def differing_versions(found: Crossover) -> tuple[str, ...]:
    """Return the libraries of which points used different versions."""
    return tuple(name for name, values in _versions(found).items() if len(values) > 1)


def _versions(found: Crossover) -> dict[str, Counter[str]]:
    names = dict.fromkeys(name for p in found.sweep.points for name in list(p.record.versions)[:40])
    return {name: Counter(p.record.versions.get(name, "not recorded") for p in found.sweep.points) for name in list(names)[:40]}


def _told(value: object) -> str:
    """Return the value of a setting as text."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "preset" if value is None else str(value)


def _facts(found: Crossover) -> Table:
    entries = found.grid.entries
    values: list[tuple[str, list[str]]] = [
        ("device", [device(found, n) for n in range(len(found.grid.devices))]),
        ("batch size", [str(v) for v in sorted({e.batch for e in entries})]),
        ("image size", [f"{v} px" for v in sorted({e.size for e in entries})]),
    ]
    for name, what in (
        ("dtype", "number format"),
        ("layout", "memory layout"),
        ("compile", "torch.compile"),
        ("autocast", "autocast"),
        ("input", "input lies on the"),
        ("cudnn_benchmark", "cudnn.benchmark"),
        ("threads", "threads"),
        ("seed", "seed"),
    ):
        values.append(
            (
                what,
                sorted({_told(getattr(e.variant, name)) for e in entries}),
            )
        )
    vits = [e for e in entries if found.grid.models[e.model].family != "cnn"]
    values.append(("attention asked for", sorted({e.variant.attention for e in vits})))
    ran = {e.point.figures.attention_ran for e in entries if e.point.figures and e.point.figures.attention_ran}
    values.append(("attention that ran", sorted(ran)))
    counts = sorted(
        {
            f"{sum(map(len, e.point.figures.samples))} in {len(e.point.figures.samples)}"
            for e in entries
            if e.point.figures and e.point.figures.samples
        }
    )
    values.append(("untraced iterations in processes", counts))
    values += [
        (name, [f"{version} ({n})" if len(found_) > 1 else version for version, n in found_.items()])
        for name, found_ in _versions(found).items()
    ]
    rows = []
    for name, told in sorted(values, key=lambda item: len(item[1]) <= 1):
        if not told:
            continue
        text = ", ".join(clean(v, 100) for v in told[:MAX_VALUES]) + (
            f" and {len(told) - MAX_VALUES} more" if len(told) > MAX_VALUES else ""
        )
        rows.append(Row((Cell(f"≠ {clean(name, 60)}" if len(told) > 1 else clean(name, 60)), Cell(text)), marked=len(told) > 1))
    heads = (
        Head("fact", meaning="a property of the devices, the settings or the software"),
        Head("value", meaning="every value that occurs among the points; of versions with the number of points in brackets"),
    )
    return Table(
        "facts-table",
        "Settings and versions; what differs between points comes first, marked ≠",
        heads,
        tuple(rows),
        fixed_order=True,
    )
