"""Section "fusion": what compiling a model changed, in kernels, bytes and time, beside its eager run."""

from __future__ import annotations

import math

from analyzer.format import APPROXIMATELY, count, counted, interval, milliseconds, percent, quantity, size, times
from analyzer.insight.ledger import PER_STEP, UNTRACED
from analyzer.insight.verdict import clearly_different
from analyzer.report.blocks import Block, Figure, Folded, Notice, Prose, Section
from analyzer.report.figures.fusion import byte_chart, module_chart
from analyzer.report.marks.fusion import MAX_GROUPS, byte_groups, byte_pairs, faster, module_label, module_pairs, slower
from analyzer.report.sections.fusion_tables import (
    bandwidth_words,
    group_table,
    has_terms,
    module_table,
    other_tables,
    saved_words,
    side_table,
    sum_table,
)
from analyzer.report.text import clean
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.fusion import Fusion, ModuleChange
from analyzer.schema.results import Study

NAMED_MODULES = 3
FEW_PCT = 95.0
"""Where less of the kernel time than this has a counterpart, the page says so."""


def section(study: Study) -> Section | None:
    """Return the section, None unless an eager and a compiled run of one model are compared."""
    found = study.fusion
    if found is None:
        return None
    per = {UNTRACED: "per batch", PER_STEP: "per step"}.get(found.basis, "in the whole trace")
    blocks: list[Block] = [Notice(clean(text)) for text in found.cautions]
    blocks += [Prose(_lead(found), Evidence.MEASURED), Prose(_counts(found, per), Evidence.MEASURED)]
    blocks += [side_table(found, per), sum_table(found, per), *_matching(found)]
    blocks += _modules(found, per)
    blocks += _groups(found, per)
    blocks += _prediction(found)
    others = other_tables(found, per)
    if others:
        blocks.append(Folded("Operators outside generated kernels", others))
    return Section("fusion", "What did compiling change?", "Compiling", tuple(blocks))


def _lead(found: Fusion) -> str:
    """Return the untraced ratio of the runs and whether it is clear; of traced times where nothing was timed."""
    ratio = found.ratio
    if ratio is None or ratio.value is None:
        eager, compiled = milliseconds(found.eager.traced_us), milliseconds(found.compiled.traced_us)
        return f"Nothing was timed without the profiler. Traced, a step takes {eager} eager and {compiled} compiled."
    if not clearly_different(ratio):
        ends = f" (95 %: {interval(ratio)})" if ratio.low is not None else ", from too few iterations to tell"
        told = f"Without the profiler the two do not clearly differ: the eager run takes {times(ratio)} as long{ends}."
        return f"{told} The differences below may be chance."
    longer, shorter, shown = "eager", "compiled", ratio
    if ratio.value < 1 and ratio.low and ratio.high:
        longer, shorter = shorter, longer
        shown = Quantity(1 / ratio.value, "x", ratio.evidence, 1 / ratio.high, 1 / ratio.low)
    whole = f"a batch takes {times(shown)} as long in the {longer} run as in the {shorter} run"
    return f"Without the profiler {whole} (95 %: {interval(shown)}): {milliseconds(abs(found.total_us))} of difference."


def _counts(found: Fusion, per: str) -> str:
    eager, compiled = found.eager, found.compiled
    fewer = "and" if compiled.launches <= eager.launches else "but"
    delta = found.kernel_delta_us
    change = f"{milliseconds(abs(delta))} {'less' if delta >= 0 else 'more'}"
    what = "launches {} kernels" if eager.on_gpu else "calls {} operators that do work"
    return (
        f"The eager run {what.format(count(eager.launches))} {per}, {fewer} the compiled run {count(compiled.launches)}: "
        f"{count(compiled.generated)} that the compiler generated and {count(compiled.library)} others. They take "
        f"{milliseconds(eager.kernel_us)} eager and {milliseconds(compiled.kernel_us)} compiled, {change}."
    )


def _matching(found: Fusion) -> list[Block]:
    """Return how much of the time could not be matched, where that is notable."""
    shares = ((found.matched_eager_pct, "eager"), (found.matched_compiled_pct, "compiled"))
    texts = [
        f"{percent(100 - share)} of the kernel time of the {name} run has no counterpart in the other run"
        for share, name in shares
        if share < FEW_PCT
    ]
    if not texts:
        return []
    return [Notice(f"{'; '.join(texts)}. That time stands in rows of its own and is part of no comparison by kernel.")]


def _modules(found: Fusion, per: str) -> list[Block]:
    if not found.modules:
        return []
    delta = found.kernel_delta_us
    change = f"{milliseconds(abs(delta))} {'less' if delta >= 0 else 'more'} in the compiled run"
    title = f"Kernel time by module, {per}: {change}"
    how = (
        "A row for the modules of one pattern (* is any number), the largest difference first. One mark is the eager run, the "
        "other the compiled run; at the right is what the compiled run saves, in bold where it takes longer. Time without a "
        "kernel is not in it. Kernels that work for several modules are divided among them."
    )
    blocks: list[Block] = [Prose(_said(found), Evidence.MODELLED)]
    drawing = module_chart(module_pairs(found), (found.eager.place, found.compiled.place), title, per)
    figure = Figure("fig-fusion-modules", title, how, drawing, module_table(found, per), table_open=True)
    blocks.append(figure)
    if not has_terms(found):
        text = "What the difference by module is due to is not told: the limits of the device are not known for both runs."
        blocks.append(Notice(f"{text} A run recorded with calibrate=auto has them."))
    return blocks


def _said(found: Fusion) -> str:
    """Return what takes less and what takes longer, in one sentence each and in the same words."""
    less, more = faster(found), slower(found)
    texts = [
        _sentence(less, "take less kernel time in the compiled run", "takes less kernel time in the compiled run"),
        _sentence(more, "take more", "takes more"),
    ]
    same = len(found.modules) - len(less) - len(more)
    rest = f" {count(same)} take as long in both." if same else ""
    return f"Of {count(len(found.modules))} module patterns, {texts[0]}; {texts[1]}.{rest}"


def _sentence(changes: tuple[ModuleChange, ...], many: str, one: str) -> str:
    if not changes:
        return f"none {one}"
    total = sum(abs(change.delta_us) for change in changes)
    named = [f"“{module_label(c.module, 48)}” ({milliseconds(abs(c.delta_us))})" for c in changes[:NAMED_MODULES]]
    most = "most in " if len(changes) > len(named) else "in "
    return (
        f"{count(len(changes))} {one if len(changes) == 1 else many} ({milliseconds(total)} together, {most}{', '.join(named)})"
    )


def _groups(found: Fusion, per: str) -> list[Block]:
    """Return the generated kernels: their bytes as a figure where known, and their table."""
    if not found.fused:
        text = "No kernel of the compiled run is known as one that the compiler generated, so nothing can be said of fusion."
        return [Notice(text)]
    blocks: list[Block] = []
    known, fused = byte_groups(found), [group for group in found.fused if group.is_fused]
    table = group_table(found, per)
    if not known:
        text = (
            "The bytes that fusing saves are not known: the run does not tell the shapes inside its generated kernels. "
            "A run recorded with compile= does."
        )
        return [Notice(_not_compared(found).strip() or text), table]
    apart, whole = saved_words(known)
    blocks.append(Prose(_bytes(found, len(fused), len(known), per), Evidence.MODELLED))
    shown = f"; drawn are the {MAX_GROUPS} of {len(known)} groups that differ most" if len(known) > MAX_GROUPS else ""
    title = f"Bytes of fused operators, {per}: {apart} apart, {whole} in one kernel each{shown}"
    how = (
        "A row for kernels with the same operators; below them the modules that call them. The hatched bar is what these "
        "operators move in the eager run, each on its own; the filled one is what the kernel has to move: inputs and outputs "
        "once. At the right is the difference, in bold where the kernel moves more."
    )
    blocks.append(Figure("fig-fusion-bytes", title, how, byte_chart(byte_pairs(found), title, per), table, table_open=True))
    return blocks


def _bytes(found: Fusion, fused: int, known: int, per: str) -> str:
    """Return what fusing changed in bytes, what these would take, and what the time did; the two are not the same thing."""
    groups = byte_groups(found)
    apart, whole = saved_words(groups)
    kernels = count(sum(group.calls for group in groups))
    partly = f" (of {known} of {fused} groups)" if known < fused else ""
    untold = sum(group.is_fused and not math.isfinite(group.bytes_whole) for group in found.groups)
    saved, us = sum(group.bytes_saved for group in groups), sum(group.saved_us for group in groups)
    delta = sum(group.delta_us for group in groups)
    text = (
        f"{kernels} generated kernels {per} do several operators each{partly}. In the eager run these operators move at least "
        f"{apart}, each on its own; the kernels have to move {whole}, which is {size(abs(saved))} "
        f"{'less' if saved >= 0 else 'more'}. "
    )
    more = [group for group in groups if group.bytes_saved < 0]
    if more:
        text += (
            f"{counted(len(more), 'group of kernels moves', 'groups of kernels move')} more than the eager operators: the "
            "compiler may repeat an operator in several kernels, or reorder the weights of a convolution in one. "
        )
    text += _not_compared(found)
    if untold:
        text += f"{counted(untold, 'group does', 'groups do')} not tell the shapes. "
    if math.isfinite(us):
        text += f"Moving {size(abs(saved))} takes {APPROXIMATELY}{milliseconds(abs(us))} at {bandwidth_words(found)}. "
    return text + (
        f"The kernels take {milliseconds(abs(delta))} {'less' if delta >= 0 else 'more'} than the same operators in the eager "
        "run. Bytes and time need not agree: a cache may have held the bytes, and kernels differ in how well they are made."
    )


def _not_compared(found: Fusion) -> str:
    """Return the bytes of kernels that do more than the eager run does, in their own words: they are in no difference."""
    groups = [group for group in found.groups if group.is_fused and not group.is_complete and math.isfinite(group.bytes_whole)]
    if not groups:
        return ""
    calls, whole = sum(group.calls for group in groups), sum(group.bytes_whole for group in groups)
    return (
        f"{counted(calls, 'kernel', 'kernels')} also {'does' if calls == 1 else 'do'} what the eager run does not, such "
        f"as laying out the weights of a convolution anew; {'it moves' if calls == 1 else 'they move'} {size(whole)} and "
        f"{'is' if calls == 1 else 'are'} not in this comparison. "
    )


def _prediction(found: Fusion) -> list[Block]:
    """Return what the finding on the eager run expected of fusing, beside what fusing did."""
    p = found.prediction
    if p is None:
        return []
    low, high = p.saving.low, p.saving.high
    ends = f" ({milliseconds(low)} to {milliseconds(high)})" if low is not None and high is not None else ""
    did = f"save {milliseconds(p.delta_us)}" if p.delta_us >= 0 else f"take {milliseconds(-p.delta_us)} longer"
    where = ""
    if low is not None and high is not None:
        beyond = ", more than that" if p.delta_us > high else ", less than that"
        where = ", within that estimate" if low <= p.delta_us <= high else beyond
    text = (
        "Predicted and measured. From the eager run alone, the finding on chains of small kernels expects "
        f"{quantity(p.saving)}{ends} from fusing what takes {milliseconds(p.chains_us)} there. In the compiled run, kernels of "
        f"several operators {did} against the same operators of the eager run{where}. They also hold operators that stood in "
        "no chain."
    )
    return [Prose(text, Evidence.MODELLED)]
