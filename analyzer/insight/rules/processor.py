"""Findings on runs on a CPU: time between operators, cores without work, number formats that it cannot do."""

from __future__ import annotations

import math

from analyzer.insight.rules.selection import HALF, per, shown
from analyzer.insight.rules.state import MIN_SAMPLES
from analyzer.insight.rules.statement import WORTH_PCT, compile_mode, fact, has_untraced_median, saving, step_us, steps_of
from analyzer.insight.telemetry import timed_samples
from analyzer.insight.verdict import waiting_pct
from analyzer.schema.evidence import Evidence
from analyzer.schema.findings import Fact, Finding
from analyzer.schema.results import Analysis
from analyzer.schema.run import Ceiling

BETWEEN_PCT = 5.0
"""Less time between operators than this is what tracing alone may cost."""
BUSY_PCT = 75.0
"""Threads that wait for each other at the end of every operator keep 80 % of the cores busy and more."""
SLOW_PCT = 30.0
"""Products of large layers reach well over half of a measured ceiling; below this another path runs."""

_M, _D, _MOD = Evidence.MEASURED, Evidence.DERIVED, Evidence.MODELLED


def processor_dispatch(a: Analysis) -> Finding | None:
    """Return that a notable part of a step on a CPU lies between operators.

    The saving lies between nothing and the time between operators in the trace, or what the untraced median leaves beside
    them, if that is less: recording an operator costs time there. Where the operators alone fill the median, there is no
    finding.

    Approximation: an operator on a CPU takes as long without the profiler as with it.
    """
    batches = a.window.batches
    left_us = waiting_pct(a) / 100 * step_us(a)
    if a.device.type != "cpu" or not batches or a.totals.wall_us <= 0 or a.totals.idle_pct < BETWEEN_PCT:
        return None
    if 100 * left_us < WORTH_PCT * step_us(a):
        return None
    share = fact("share of the traced step between operators", a.totals.idle_pct, "%", _M)
    between_us = a.totals.idle_us / batches
    spent = fact("time between operators per traced step", between_us, "us", _M)
    number = fact("operators that do work, per step", a.totals.kernel_count / batches, "count", _M)
    facts: tuple[Fact, ...] = (share, spent, number)
    text = ""
    # a step that was slower without the profiler than with it was disturbed: that is not for fewer operators to save
    if has_untraced_median(a) and left_us < between_us:
        left = fact("untraced time beside the operators, per step", left_us, "us", _D)
        part = fact("share of the untraced step", waiting_pct(a), "%", _D)
        facts += (left, part)
        text = f" Without the profiler a step leaves {shown(left)} ({shown(part)} of it) beside the operators."
    return Finding(
        "processor_dispatch",
        a.run.name,
        "The processor spends time between operators",
        f"For {shown(spent)} per traced step ({shown(share)} of it) no operator does work: this is Python, the dispatch of "
        f"{shown(number)} operators, and the profiler's own cost.{text} {_less(a)}",
        facts,
        saving(a, 0.0, min(left_us, between_us), between_us),
        step_us(a),
        "a small change",
        "A run with a larger batch whose time per image stays the same.",
        "busy",
    )


def _less(a: Analysis) -> str:
    if compile_mode(a) == "off":
        return "A compiled model or a larger batch needs less per image."
    return "The model is compiled already; a larger batch needs less per image."


def processor_cores(a: Analysis) -> Finding | None:
    """Return that a run on a CPU kept fewer cores busy than it may use: in the timed pass, or by its number of threads.

    The saving lies between nothing (memory may be what limits it) and step x (1 - busy cores / cores), as if the work divided
    evenly.
    """
    cores = a.device.cores or a.device.threads
    asked = a.run.facts.settings.threads if a.run.facts else None
    if a.device.type != "cpu" or not cores or not a.window.batches:
        return None
    threads = asked or cores
    used = timed_samples(a)["cpu_pct"].dropna()
    busy = float(used.median()) / 100 if len(used) >= MIN_SAMPLES else math.nan
    waits = busy < BUSY_PCT / 100 * min(threads, cores)
    if not waits and threads >= cores:
        return None
    there = fact("cores", cores, "count", _M)
    running = fact("threads", threads, "count", _M)
    facts: tuple[Fact, ...] = (there, running)
    text = f"The run has {shown(running)} {'thread' if threads == 1 else 'threads'} on {shown(there)} cores."
    if math.isfinite(busy):
        kept = fact("cores kept busy in the timed pass, median", busy, "cores", _M)
        facts += (kept,)
        text += f" In the timed pass it kept {shown(kept)} busy (median of the samples)."
    high = (1 - min(busy if math.isfinite(busy) else threads, cores) / cores) * step_us(a)
    why = (
        "Either other processes took the rest, or the work is too small to be divided."
        if waits
        else "More threads could share the work, as far as memory allows."
    )
    return Finding(
        "processor_cores",
        a.run.name,
        "Cores are left without work",
        f"{text} {why}",
        facts,
        saving(a, 0.0, high, step_us(a)),
        step_us(a),
        "a setting",
        "A run with as many threads as cores, on an otherwise idle machine, that takes as long.",
        "steady",
    )


def processor_format(a: Analysis) -> Finding | None:
    """Return that products in a 16-bit format run far below what this CPU does in float32, or below its own ceiling for them.

    Their rate is FLOP / time; the ceilings are measured matrix products. The saving lies between nothing and what is above
    the floor at the higher of the two ceilings.
    """
    if a.device.type != "cpu" or a.dtype not in HALF:
        return None
    rows = a.launches[
        a.launches["kind"].isin(("matmul", "convolution")) & a.launches["flop"].gt(0) & a.launches["dtype"].eq(a.dtype)
    ]
    time, flop = float(rows["exclusive_us"].sum()), float(rows["flop"].sum())
    known = {c.dtype: c for c in (a.run.facts.ceilings if a.run.facts else ()) if c.name == "matmul"}
    best = max(known.values(), key=lambda c: c.value, default=None)
    if best is None or time <= 0 or 100 * time / steps_of(a) < WORTH_PCT * step_us(a):
        return None
    rate = flop / time / 1e6
    if 100 * rate >= SLOW_PCT * best.value:
        return None
    spent = fact("time of products", time / steps_of(a), "us", _M)
    reached = fact("rate of products", rate, "TFLOP/s", _MOD)
    ceiling = fact(f"measured ceiling in {best.dtype}", best.value, "TFLOP/s", _M)
    share = fact("share of that ceiling", 100 * rate / best.value, "%", _MOD)
    high = (time - flop / best.value / 1e6) / steps_of(a)
    other = best.dtype == "float32"
    own, why = _why_slow(a.dtype, rate, known)
    return Finding(
        "processor_format",
        a.run.name,
        f"Products in {a.dtype} are slow on this processor",
        f"They take {shown(spent)} {per(a)} at {shown(reached)}, {shown(share)} of the {shown(ceiling)} that a large product "
        f"in {best.dtype} was measured to reach on it. {why}",
        (spent, reached, ceiling, share, *own),
        saving(a, 0.0, high, time / steps_of(a)),
        step_us(a),
        "a setting",
        "A run in float32 that takes as long." if other else "A larger product in this format that runs at the same rate.",
        "roofline",
    )


def _why_slow(dtype: str, rate: float, known: dict[str, Ceiling]) -> tuple[tuple[Fact, ...], str]:
    """Return what may be the reason: the format's own measured ceiling, where it is the lower one, and the sentence on it."""
    best, mine = max(known.values(), key=lambda c: c.value), known.get(dtype)
    small = "these products may be too small for that, or limited by memory"
    if mine is best:
        return (), f"So the format is not what is slow: {small}."
    if mine is None:
        return (), (
            f"Either the processor has no fast path for {dtype}, so that float32 may be faster, or {small}. No ceiling in "
            f"{dtype} was measured that would tell."
        )
    own = fact(f"measured ceiling in {dtype}", mine.value, "TFLOP/s", _M)
    if 100 * mine.value < SLOW_PCT * best.value:
        also = "" if 100 * rate >= SLOW_PCT * mine.value else f" Besides, {small}."
        return (own,), (
            f"A large product in {dtype} reaches {shown(own)}. So the processor has no fast path for this format, and float32 "
            f"may be faster.{also}"
        )
    return (own,), f"A large product in {dtype} reaches {shown(own)}, so the format alone does not explain it: {small}."
