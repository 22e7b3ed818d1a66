"""What is off in a run or a comparison, and what was not measured and how to get it."""

from __future__ import annotations

from analyzer.format import digits, input_size, percent, quantity
from analyzer.insight.counters import counters_missing, has_counters, refusal
from analyzer.insight.telemetry import held_down, timed_samples
from analyzer.metrics.arithmetic import MATRIX_KINDS
from analyzer.schema.evidence import Evidence
from analyzer.schema.results import Analysis, Caveat
from analyzer.schema.run import RunFacts
from analyzer.schema.tables import records

PROFILER_SLOWDOWN = 1.10
SPREAD_PCT = 10.0
HOST_BOUND_PCT = 20.0
HOST_PACE_PCT = 50.0
"""A GPU that is idle for more than this share of the time does what its host has time for."""
UNCLASSIFIED_PCT = 5.0
BEATEN = 1.10


def find_caveats(a: Analysis) -> tuple[Caveat, ...]:
    """Return what a reader must know before trusting the figures of one run."""
    found = [*_impossible(a), *_steadiness(a), *_trace(a), *_beaten_ceilings(a), *_clocks(a), *_choices(a), *_counters(a)]
    found += [Caveat("warning", f"{a.label}: {text}", "method") for text in a.warnings]
    return tuple(found)


def _impossible(a: Analysis) -> list[Caveat]:
    """Return one line for all figures that cannot be true; their cards name each."""
    wrong = [i for i in a.impossible if not i.explanation]
    if not wrong:
        return []
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return [Caveat("error", f"{a.label}: impossible, so not shown: {wrong[0].what} ({wrong[0].kernel[:60]}){more}", "roofline")]


def _steadiness(a: Analysis) -> list[Caveat]:
    found = []
    facts = a.run.facts
    if facts and not facts.warmup.steady:
        text = f"{a.label}: warm-up ended unsteady after {facts.warmup.iterations} iterations ({facts.warmup.note})"
        found.append(Caveat("warning", text, "steady"))
    if a.latency and a.latency.spread_pct > SPREAD_PCT:
        text = f"{a.label}: the middle half of the iterations spreads over {percent(a.latency.spread_pct)} of the median"
        found.append(Caveat("warning", text, "steady"))
    if a.latency and a.latency.traced_ms.value and a.latency.median_ms.value:
        slowdown = a.latency.traced_ms.value / a.latency.median_ms.value
        if slowdown > PROFILER_SLOWDOWN:
            text = f"{a.label}: a traced step takes {digits(slowdown)}x as long as an untraced one; shares are of traced time"
            found.append(Caveat("warning", text, "steady"))
    return found


def _trace(a: Analysis) -> list[Caveat]:
    found = []
    if a.device.type == "cuda" and a.totals.idle_pct > HOST_BOUND_PCT:
        text = f"{a.label}: the GPU is idle for {percent(a.totals.idle_pct)} of the traced time"
        found.append(Caveat("warning", text, "busy"))
    if 100 - a.totals.classified_pct > UNCLASSIFIED_PCT and a.totals.kernel_count:
        text = f"{a.label}: {percent(100 - a.totals.classified_pct)} of the kernel time has no kind"
        found.append(Caveat("warning", text, "time"))
    if 100 - a.totals.modelled_pct > UNCLASSIFIED_PCT and a.totals.kernel_count:
        text = f"{a.label}: {percent(100 - a.totals.modelled_pct)} of the kernel time has no work model"
        found.append(Caveat("warning", text, "roofline"))
    if a.totals.kernel_count and a.totals.linked_pct < 99:
        text = f"{a.label}: {percent(100 - a.totals.linked_pct)} of the kernel time could not be linked to an operator"
        found.append(Caveat("warning", text, "kernels"))
    if a.run.facts is None:
        text = f"{a.label}: a bare trace, so there is no untraced latency; all times include the profiler's own cost"
        found.append(Caveat("note", text, "method"))
    return found


def _beaten_ceilings(a: Analysis) -> list[Caveat]:
    """Return the kinds that ran faster than their limit allows: then the limit, or the work, is wrong."""
    beaten = [
        str(row.kind)
        for row in records(a.kinds)
        if row.kind in MATRIX_KINDS and row.modelled_us > 0 and row.floor_us > BEATEN * row.modelled_us
    ]
    if not beaten:
        return []
    text = f"{a.label}: {' and '.join(beaten)} ran faster than"
    if any(limit.figure.evidence is Evidence.MEASURED for limit in a.limits):
        why = (
            "the measured ceiling (a square matrix product): that was measured in a busier moment, or another library "
            "does this work better; calibrate=force measures again"
        )
    else:
        why = "the datasheet allows: its element type, its work or the device is taken for another"
    return [Caveat("warning", f"{text} {why}", "roofline")]


def _choices(a: Analysis) -> list[Caveat]:
    """Return settings that can decide a comparison on a GPU and are easily taken for properties of the models."""
    facts = a.run.facts
    if facts is None or a.device.type != "cuda":
        return []
    found = []
    settings = facts.settings
    if a.dtype == "float32" and settings.convolution_tf32 and settings.matmul_precision == "highest":
        text = f"{a.label}: convolutions may run as TF32 while matrix products run in full float32, as torch has it by default"
        found.append(Caveat("warning", text, "method"))
    if facts.model.family == "cnn" and settings.memory_format and not settings.cudnn_benchmark:
        text = (
            f"{a.label}: ran {settings.memory_format}, {settings.execution}, cudnn.benchmark off; a CNN may be faster otherwise"
        )
        found.append(Caveat("note", text, "method"))
    return found


def _clocks(a: Analysis) -> list[Caveat]:
    found = []
    for name, share in held_down(timed_samples(a)).items():
        text = f"{a.label}: clocks held down ({name}) in {percent(share)} of the samples of the timed pass"
        found.append(Caveat("warning", text, "steady"))
    limit, default = a.device.power_limit_w, a.device.power_default_w
    if limit and default and limit < 0.99 * default:
        text = f"{a.label}: the power cap is at {percent(100 * limit / default)} of the card's default"
        found.append(Caveat("warning", text, "steady"))
    return found


def _counters(a: Analysis) -> list[Caveat]:
    """Return what keeps hardware counters from being used, or from meaning what they seem to."""
    view = a.counters
    if view is None:
        return []
    if not has_counters(a):
        return [Caveat("warning", f"{a.label}: {refusal(a)}", "counters")]
    if view.mode == "warm":
        return []
    how = "were read with caches emptied before each kernel"
    told = how if view.mode == "cold" else f"do not tell whether they {how}, as ncu does unless told otherwise"
    held = "they may hold DRAM traffic that the run did not have, and no rate is taken from them"
    text = f"{a.label}: its counters {told}; so {held}"
    return [Caveat("warning", text, "counters")]


def _input_size(facts: RunFacts) -> str:
    return input_size(facts.settings.image_size, facts.model.input_shape[1:])


def find_pair_caveats(a: Analysis, b: Analysis) -> tuple[Caveat, ...]:
    """Return the facts in which two runs differ although a comparison of models wants them equal."""
    pairs = [("device", a.device.name, b.device.name), ("dtype", a.dtype, b.dtype)]
    if a.run.facts and b.run.facts:
        one, two = a.run.facts, b.run.facts
        pairs += [
            ("batch size", str(one.settings.batch_size), str(two.settings.batch_size)),
            ("image size", _input_size(one), _input_size(two)),
            ("torch version", one.versions.get("torch", "?"), two.versions.get("torch", "?")),
            ("autocast", _on(one.settings.autocast), _on(two.settings.autocast)),
            ("where the input lies", one.settings.input, two.settings.input),
            ("threads", str(one.settings.threads), str(two.settings.threads)),
        ]
    return tuple(Caveat("warning", f"The runs differ in {name}: {x} and {y}", "method") for name, x, y in pairs if x != y)


def _on(flag: bool) -> str:
    return "on" if flag else "off"


def not_measured(analyses: tuple[Analysis, ...]) -> tuple[str, ...]:
    """Return what was not measured, each with the way to get it."""
    found = list(counters_missing(analyses))
    for a in analyses:
        telemetry = a.run.facts.telemetry if a.run.facts else None
        if a.run.facts and a.latency is None:
            found.append(f"{a.label}: latency without the profiler; its timings.csv is missing or has no untraced iteration")
        if telemetry is not None:
            for name, source in (("GPU power and clocks", telemetry.nvml), ("GPM", telemetry.gpm)):
                # without a driver there is no GPM either; one line says it
                if not source.available and (name != "GPM" or telemetry.nvml.available):
                    found.append(f"{name}: {source.reason}")
        else:
            found.append(
                f"{a.label}: latency without the profiler, clocks and power; a bare trace has none, record a run to get them"
            )
        if a.device.type == "cuda" and a.totals.occupancy_pct.value is None:
            found.append(f"{a.label}: occupancy; {quantity(a.totals.occupancy_pct)}, {a.totals.occupancy_pct.source}")
    return tuple(dict.fromkeys(found))
