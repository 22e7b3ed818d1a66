"""Sections on time: what stands here, ViT against CNN, attention, compiling, what measuring costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from analyzer.analysis import compare
from analyzer.format import APPROXIMATELY, count, counted, fixed, percent, signed, size
from analyzer.insight.causes import CAUSES, by_term
from analyzer.metrics.timing import ratio
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.ledger import UNEXPLAINED, UNNAMED
from analyzer.schema.results import Study
from benchmarks.validation_page.markdown import Section, absent, figure, table
from benchmarks.validation_page.runs import PAIRS, ROOT, Reference, attention_pairs, compiled_pairs, model_pairs, said

MEASURED = ROOT / "benchmarks" / "evidence" / "measured"
SIZES = (224, 512, 1024)
"""Image sizes at which the pair of the project is wanted."""
NO_LATENCY = Quantity.missing("ms", "no untraced pass")


def latency_of(run: Reference) -> Quantity:
    """Return the untraced latency of one batch."""
    return run.analysis.latency.median_ms if run.analysis.latency else NO_LATENCY


def runs_section(runs: Sequence[Reference]) -> Section:
    """Return the list of the runs: where, when and with what they were recorded, and how steady they were."""
    head = ("run", "recorded", "torch", "threads", "latency of a batch", "middle half", "processes", "warm-up steady")
    rows = [
        (
            f"`{run.device}/{run.name}`",
            run.facts.created_utc[:10],
            run.facts.versions.get("torch", "not told"),
            "" if run.is_gpu else str(run.facts.settings.threads),
            figure(latency_of(run)),
            percent(run.analysis.latency.spread_pct) if run.analysis.latency else "",
            str(run.analysis.latency.processes) if run.analysis.latency else "",
            "yes" if run.facts.warmup.steady else f"no, {percent(run.facts.warmup.spread_pct)}",
        )
        for run in runs
    ]
    about = (
        "Measured. Latency without the profiler, with the 95 % interval of its median over all processes. *Middle half*: the "
        "distance of the quartiles in percent of the median, which is the noise."
    )
    missing = () if any(run.is_gpu for run in runs) else (absent("any run of a GPU"),)
    return Section("The reference runs", about, (table(head, rows, texts=3),) if rows else (), missing)


def ratio_section(runs: Sequence[Reference]) -> Section:
    """Return ViT against CNN, with the ledger of each pair."""
    pairs = list(model_pairs(runs))
    head = ("device", "pair", "setting", "ViT", "CNN", "ViT takes")
    rows, ledgers = [], []
    for vit, cnn in pairs:
        study = compare(vit.analysis, cnn.analysis)
        labels = f"{vit.facts.model.label} and {cnn.facts.model.label}"
        times = figure(study.ratio) if study.ratio else "n/a"
        rows.append((vit.device, labels, said(vit), figure(latency_of(vit)), figure(latency_of(cnn)), f"{times} as long"))
        ledgers.append(f"{study.verdict.headline}.\n\n{_ledger(study)}")
    about = (
        "Measured, and derived where two figures are divided. The ledger splits the difference per batch (ViT minus CNN) into "
        "parts that add up to it; the parts rest on models ([what they mean](reading-the-report.md#the-parts-of-the-gap))."
    )
    missing = tuple(absent(text, device) for text, device in _unpaired(pairs))
    texts = (table(head, rows, texts=3), *ledgers) if rows else ()
    return Section("A Vision Transformer against a CNN", about, texts, missing)


def _unpaired(pairs: Sequence[tuple[Reference, Reference]]) -> list[tuple[str, str]]:
    there = {vit.facts.settings.image_size for vit, cnn in pairs if vit.is_gpu and vit.facts.model.name == PAIRS[0][0]}
    lacking = [str(pixels) for pixels in SIZES if pixels not in there]
    return [(f"ViT-B/16 against ConvNeXt-B on a GPU at {', '.join(lacking)} px", "an NVIDIA GPU")] if lacking else []


def _ledger(study: Study) -> str:
    gap = study.gap
    if gap is None:
        return ""
    # what has no cause stands term by term: two of them may be large and of opposite sign
    parts = [(CAUSES[term], _is_cause(term), signed(us)) for term, us in by_term(gap, named=False) if us]
    return table(("part of the difference", "a cause", "per batch"), [*parts, ("sum", "", signed(gap.total_us))], texts=2)


def _is_cause(term: str) -> str:
    return "no" if term in (*UNNAMED, *UNEXPLAINED) else "yes"


def attention_section(runs: Sequence[Reference]) -> Section:
    """Return fused against materialised attention: milliseconds and bytes."""
    found = list(attention_pairs(runs))
    about = (
        "Latency measured, bytes modelled: the least that all operators of one batch have to move. Materialised attention "
        "writes its scores to memory and reads them again; fused attention never holds them."
    )
    gpus = [math for math, _ in found if math.is_gpu]
    missing = [] if gpus else [absent("fused against materialised attention on a GPU, in time and in modelled bytes")]
    return Section(
        "Fused against materialised attention", about, _side_by_side(found, "materialised", "fused", setting=1), tuple(missing)
    )


def _side_by_side(pairs: Sequence[tuple[Reference, Reference]], first: str, second: str, *, setting: int) -> tuple[str, ...]:
    """Return the table of pairs of runs: both latencies, their ratio, and what the first moves more; nothing without pairs.

    ``setting``: which of the two names the setting, 0 or 1.
    """
    head = ("device", "model", "setting", first, second, f"{first} takes", f"bytes, {first} minus {second}")
    rows = [
        (
            one.device,
            one.facts.model.label,
            said((one, two)[setting]),
            figure(latency_of(one)),
            figure(latency_of(two)),
            f"{_ratio(one, two)} as long",
            _difference(more_bytes(one, two)),
        )
        for one, two in pairs
    ]
    return (table(head, rows, texts=3),) if rows else ()


def more_bytes(one: Reference, two: Reference) -> float:
    """Return the compulsory bytes of one batch of ``one`` minus those of ``two``."""
    first, second = (run.analysis.totals.bytes_compulsory / run.batches for run in (one, two))
    return first - second


def _difference(value: float) -> str:
    return f"{APPROXIMATELY}{'+' if value > 0 else ''}{size(value)}"


def _ratio(one: Reference, two: Reference) -> str:
    first, second = one.analysis.latency, two.analysis.latency
    return figure(ratio(first, second)) if first and second else "n/a"


def compiled_section(runs: Sequence[Reference]) -> Section:
    """Return compiled against eager."""
    about = (
        "Latency measured, bytes modelled as above. A kernel made of several operators does not write and read what lies "
        "between them, which makes bytes fewer; whether that outweighs what compiled code moves besides shows in the sign. The "
        "time of compiling is not in it."
    )
    found = list(compiled_pairs(runs))
    missing = [] if any(run.is_gpu for run, _ in found) else [absent("compiled against eager on a GPU")]
    missing += [] if found else ["compiled against eager on a CPU. `analyzer compile=default` records such a run"]
    return Section("Compiled against eager", about, _side_by_side(found, "compiled", "eager", setting=0), tuple(missing))


def cost_section(runs: Sequence[Reference], measured: Path = MEASURED) -> Section:
    """Return what the profiler and the telemetry cost."""
    rows = [(f"`{run.device}/{run.name}`", *cells) for run in runs if (cells := _traced(run))]
    head = ("run", "untraced", "traced", "traced takes", "processes, steps")
    found = sorted(measured.glob("*/sampler-cost.json"))
    samplers = [_sampler(path) for path in found]
    texts = [table(head, rows)] if rows else []
    if samplers:
        texts.append(table(("device", "model", "with telemetry it takes", "pairs of blocks"), samplers, texts=2))
    about = (
        "Measured. Latencies in the report come from untraced passes, so the cost of the profiler is in none of them; times of "
        "kernels come from the traced pass. On a noisy machine a ratio below 1 is noise. Telemetry is meant to cost under 1 %."
    )
    missing = () if samplers else (absent("latency with and without telemetry", "any machine"),)
    return Section("What measuring costs", about, tuple(texts), missing)


def _traced(run: Reference) -> tuple[str, ...]:
    found = run.analysis.latency
    if found is None or found.traced_ms.value is None or found.median_ms.value is None:
        return ()
    times = Quantity(found.traced_ms.value / found.median_ms.value, "x", Evidence.DERIVED)
    steps = counted(run.facts.settings.traced_steps, "step", "steps")
    processes = counted(found.processes, "process", "processes")
    return figure(found.median_ms), figure(found.traced_ms), f"{figure(times)} as long", f"{processes}, {steps}"


def _sampler(path: Path) -> tuple[str, ...]:
    found = json.loads(path.read_text(encoding="utf-8"))
    told = f"{fixed(found['ratio'], 4)}x ({fixed(found['low'], 4)}x to {fixed(found['high'], 4)}x) as long"
    return path.parent.name, str(found["settings"]["model"]), told, count(found["n"])
