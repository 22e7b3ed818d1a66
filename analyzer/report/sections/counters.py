"""Section "counters": what the hardware counted, beside what the models said, or why nothing was counted."""

from __future__ import annotations

import math
import re

from analyzer.format import counted, percent, size
from analyzer.insight.counter_support import counting
from analyzer.insight.counters import Absence, absence, counter_line, has_counters
from analyzer.insight.validation import validate_analyses
from analyzer.report.blocks import Block, Figure, Folded, Listing, Notice, Prose, Section
from analyzer.report.figures.counters import traffic as draw_traffic
from analyzer.report.marks.counters import Compared, Group, by_kind, by_module, by_operator, whole
from analyzer.report.sections.activity import activity_blocks
from analyzer.report.sections.counter_tables import CACHES, MAX_ROWS, source_table, traffic_table, use_table
from analyzer.report.text import clean
from analyzer.report.validation.blocks import validation_blocks
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis, Study
from analyzer.trace.rundir import COUNTERS_FILE

ID, HEADING, SHORT = "counters", "What did the hardware count?", "Counters"
M = Evidence.MEASURED
MAX_LINES = 40
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)

PLAIN = (
    "Hardware counters are registers of the GPU that count events such as sectors fetched from DRAM. They are read in runs of "
    "their own, kernel by kernel, and joined to the launches of the trace. Where a figure was counted with "
    "caches as in the run, it stands before the modelled one everywhere on this page; here both stand side by side."
)
HOW = (
    "Right is more bytes through DRAM. The filled mark is what the hardware counted; the pale bar is what the access model "
    "expected, and the short line the compulsory bytes: each input read once, each output written once. A mark inside its bar "
    "is as modelled. A mark right of it moved bytes that the model does not know of; left of it, fewer than modelled. "
    "The ratios at the right are counted over compulsory bytes."
)


def section(study: Study) -> Section | None:
    """Return what was counted in each run, or why nothing was; None where no run is on a GPU."""
    on_gpu = [a for a in study.analyses if a.device.type == "cuda"]
    if not on_gpu:
        return None
    there = any(has_counters(a) for a in on_gpu)
    blocks: list[Block] = [*(_counted(study) if there else ()), *_absent(on_gpu, there), *_further(study)]
    return Section(ID, HEADING, SHORT, tuple(blocks))


def _counted(study: Study) -> list[Block]:
    labels = tuple(clean(a.label, 60) for a in study.analyses)
    mine = [(run, a) for run, a in enumerate(study.analyses) if has_counters(a)]
    groups = by_kind(study.analyses)
    blocks: list[Block] = []
    for run, a in mine:
        everything = whole(a, run)
        blocks.append(Prose(_lead(a, labels[run], everything), M))
        blocks += _beside_models(labels[run] if len(mine) > 1 else "", everything)
    blocks.append(Prose(PLAIN))
    per = "per step" if all(a.window.batches for _, a in mine) else "in the trace"
    drawn = tuple(g for g in groups if g.dram.known)
    bytes_table = traffic_table("counters-kinds", f"Bytes by kind, counted and modelled, {per}", "kind", groups, labels)
    if drawn:
        title = f"DRAM bytes by kind {per}, counted and modelled"
        drawing = draw_traffic(drawn, labels, per, title)
        blocks.append(Figure("fig-counters", title, HOW, drawing, bytes_table, _undrawn(groups), table_open=True))
    else:
        blocks.append(bytes_table)
    blocks.append(use_table("counters-use", "Cache hits, occupancy and tensor pipe by kind", "kind", groups, labels))
    for what, make in (("operator", by_operator), ("module", by_module)):
        found = [g for run, a in mine for g in make(a, run)[: MAX_ROWS // len(mine)]]
        if not found:
            continue
        rows = tuple(sorted(found, key=lambda g: -g.share_pct))
        tables = (
            traffic_table(f"counters-{what}s", f"Bytes by {what}, counted and modelled, {per}", what, rows, labels),
            use_table(f"counters-{what}s-use", f"Cache hits, occupancy and tensor pipe by {what}", what, rows, labels),
        )
        blocks.append(Folded(f"The same by {what}", tables))
    return [*blocks, source_table(study.analyses, labels), *_gaps(mine, labels)]


def _lead(a: Analysis, label: str, found: Group) -> str:
    """Return what was counted in one run, and how."""
    texts = [f"{label}: counters for {clean(counter_line(a), 200)}. {_origin(a)}"]
    if math.isfinite(found.dram.whole):
        texts.append(f"DRAM moved {size(found.dram.whole)} {'per step' if a.window.batches else 'in the trace'}.")
    if math.isfinite(found.achieved_pct):
        texts.append(f"Weighted by time, achieved occupancy is {percent(found.achieved_pct)}.")
    if math.isfinite(found.tensor_pct):
        texts.append(f"The tensor pipe is in use in {percent(found.tensor_pct)} of the cycles in which a multiprocessor works.")
    return " ".join(texts)


def _beside_models(label: str, found: Group) -> list[Block]:
    """Return what the models say of the same, nothing where they have no figure."""
    texts = []
    if found.dram.known:
        texts.append(_against(found.dram))
    if math.isfinite(found.achieved_pct) and math.isfinite(found.allowed_pct):
        texts.append(f"The launches allow {percent(found.allowed_pct)} occupancy.")
    if not texts:
        return []
    who = f" of {label}" if label else ""
    return [Prose(f"Models{who}: {' '.join(texts)}", Evidence.MODELLED if found.dram.known else Evidence.DERIVED)]


def _against(dram: Compared) -> str:
    """Return how the counted bytes of launches with a model compare with its band."""
    of = "" if size(dram.whole) == size(dram.measured) else f" where launches have a model, which moved {size(dram.measured)}"
    band = size(dram.low) if dram.low == dram.high else f"{size(dram.low)} to {size(dram.high)}"
    if dram.measured > dram.high:
        place = f"{percent(100 * (dram.measured / dram.high - 1))} more than its upper end" if dram.high else "more than that"
    elif dram.measured < dram.low:
        place = f"{percent(100 * (1 - dram.measured / dram.low))} less than its lower end"
    else:
        place = "inside that band"
    return f"the access model expects {band} through DRAM{of}; what was counted is {place}."


def _origin(a: Analysis) -> str:
    view = a.counters
    if view is None:
        return ""
    caches = (
        f"with caches {CACHES[view.mode]}" if view.mode in CACHES else "the source does not tell in which state caches were"
    )
    if view.kind == "ranges":
        return f"They stand in the trace itself, as cuda_profiler_range events; {caches}."
    if view.kind == "ncu":
        facts = a.run.facts.counters if a.run.facts else None
        times = f" in {counted(facts.passes, 'pass', 'passes')} of their own" if facts and facts.passes else ""
        return f"They were read{times} after the recording, {caches}."
    return f"They come from the file {clean(view.source, 120)}; {caches}."


def _undrawn(groups: tuple[Group, ...]) -> str:
    """Return which kinds the figure leaves out, because nothing is counted or modelled there."""
    names = dict.fromkeys(g.kind for g in groups if not g.dram.known)
    return f"Not drawn, because no launch has both a count and a model: {', '.join(names)}." if names else ""


def _gaps(mine: list[tuple[int, Analysis]], labels: tuple[str, ...]) -> list[Block]:
    """Return what the counters do not have, and what is odd about them."""
    views = [(labels[run] if len(mine) > 1 else "", a.counters) for run, a in mine if a.counters is not None]
    gone = [(_term(label, clean(what, 80)), clean(why, 300)) for label, view in views for what, why in view.missing]
    odd = [(labels[run], clean(note, 400)) for run, a in mine if a.counters for note in a.counters.notes]
    blocks: list[Block] = []
    if gone:
        blocks.append(Listing("Not in these counters", tuple(gone[:MAX_LINES])))
    if odd:
        blocks.append(Listing("To know about these counters", tuple(odd[:MAX_LINES])))
    return blocks


def _term(label: str, what: str) -> str:
    return f"{label}: {what}" if label else what


def _absent(on_gpu: list[Analysis], there: bool) -> list[Block]:
    """Return one notice per reason why runs have no counters, and the commands that would give them."""
    found: dict[Absence, list[str]] = {}
    for a in on_gpu:
        if not has_counters(a):
            found.setdefault(absence(a), []).append(clean(a.label, 60))
    reasons: dict[tuple[str, str], list[str]] = {}
    for gone, labels in found.items():
        reasons.setdefault((gone.why, gone.how), []).extend(labels)
    everyone = len(reasons) == 1 and not there
    blocks: list[Block] = []
    for (why, how), labels in reasons.items():
        who = "" if everyone else f" of {' and '.join(dict.fromkeys(labels))}"
        texts = [f"No hardware counters{who}: {clean(why)}."]
        texts += ["Bytes are modelled; hit rates and achieved occupancy are missing."] if everyone else []
        texts += [f"To get them, {clean(how)}." if how[:1].islower() else f"{clean(how)}."] if how else []
        blocks.append(Notice(" ".join(texts)))
    said = [(" and ".join(dict.fromkeys(labels)), gone) for gone, labels in found.items()]
    commands = tuple((who if len(on_gpu) > 1 else "", clean(gone.command, 2000)) for who, gone in said if gone.command)
    if commands:
        blocks.append(Listing("How to record with counters", commands[:MAX_LINES], code=True))
    return [*blocks, *_foreign([a for a in on_gpu if not has_counters(a) and absence(a).foreign])]


def _foreign(runs: list[Analysis]) -> list[Block]:
    """Return the commands that count the kernels of programs that are not this one, the same ones once."""
    found: dict[str, list[str]] = {}
    for a in runs:
        text = counting(a.device.compute_capability, _beside(a))
        found.setdefault("\n".join(clean(line, 300) for line in text.splitlines()), []).append(clean(a.label, 60))
    items = tuple((" and ".join(labels) if len(runs) > 1 else "", text) for text, labels in found.items())
    return [Listing("How to count the kernels of a program of your own", items, folded=True, code=True)] if items else []


def _beside(a: Analysis) -> str:
    """Return the name under which counters of a trace are found; a name that a shell acts on is left to the reader."""
    stem = a.run.trace_name.removesuffix(".gz").removesuffix(".json")
    own = a.run.facts is None and _PLAIN_NAME.fullmatch(stem)
    return f"{stem}.{COUNTERS_FILE}" if own else COUNTERS_FILE


def _further(study: Study) -> list[Block]:
    """Return the activity that GPM averaged, and the errors of the predictions."""
    mine = tuple(a for a in study.analyses if has_counters(a))
    return [*(validation_blocks(validate_analyses(mine)) if mine else ()), *activity_blocks(study)]
