"""What global access costs against local access: one sentence on this pair, this attention and this GPU, computed each time.

Cost is time at the limits of the device: the floor with the traffic through DRAM and L2 that the access model expects, minus
the floor if every operand moved once. Nothing here knows beforehand which side costs more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from analyzer.format import counted, fixed, percent
from analyzer.schema.access import AccessResult, CacheFacts, Cost
from analyzer.schema.evidence import Evidence

Band = tuple[float, float]

LOCAL_ROLES = ("convolution", "depthwise")
GLOBAL_ROLE = "attention"
FUSED, MATERIALISED = "fused", "materialised"
VARIANTS = {"attention_fused": FUSED, "attention_materialised": MATERIALISED, "scores": MATERIALISED}
NEGLIGIBLE, ALMOST_ALL, WELL_COVERED = 0.01, 0.99, 95.0
"""Costs below this share of the least time of the whole model separate nothing."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The claim tested.

    ``outcome``: ``global``, ``local``, ``unclear``, ``neither``, ``one_sided``, ``both_ways``, ``apart`` or ``unknown``.
    ``both_ways``: one run fused its attention, the other wrote the scores out, and there are no convolutions to compare with.
    ``apart``: no device has costs for all runs, and more than one run has costs on its own; its reasons give each.
    ``global_us`` and ``local_us`` are the costs (low, high) behind the sentence, per batch or, as ``per`` says, per image.
    ``written_us`` is what writing scores out costs more than fused attention; a run that wrote them has it as ``global_us``.
    """

    sentence: str
    reasons: tuple[str, ...]
    evidence: Evidence
    outcome: str
    per: str = "batch"
    global_us: Band | None = None
    local_us: Band | None = None
    written_us: Band | None = None


@dataclass(frozen=True, slots=True)
class _Side:
    """One kind of access of one model on one device, priced.

    ``phrase`` says what is priced, ``noun`` names it, ``beyond`` says against what. ``least_us``: floor of the whole model.
    ``dense_us`` is what the order of blocks costs its linear layers, ``covered_pct`` the share of its time with a model.
    """

    model: str
    what: str
    phrase: str
    noun: str
    beyond: str
    cost_us: Band
    floor_us: float
    l2_us: float
    bytes_ratio: Band
    least_us: float
    aside: str = ""
    written_us: Band | None = field(default=None)
    dense_us: Band = (0.0, 0.0)
    covered_pct: float = 100.0
    time_word: str = "kernel time"

    @property
    def share_pct(self) -> float:
        """Return the cost, at most, over the least time of the whole model."""
        return 100 * self.cost_us[1] / self.least_us if self.least_us else 0.0

    @property
    def is_negligible(self) -> bool:
        """Tell whether the cost is too small to separate anything."""
        return abs(self.share_pct) < 100 * NEGLIGIBLE


def claim(results: tuple[AccessResult, ...]) -> Claim:
    """Return the sentence on global against local access, with its reasons."""
    device = _device(results)
    names = [result.model for result in results]
    if device is None:
        return _without_device(results)
    sizes = {result.batch_size for result in results}
    per_image = len(sizes) > 1 and min(sizes) > 0  # 0: a bare trace does not say how many images a batch had
    pairs = [_sides(result, device.key, result.batch_size if per_image else 1) for result in results]
    far = max((f for f, _ in pairs if f), key=lambda side: side.floor_us, default=None)
    # a model stands for local access where it spends more on windows than on attention, and is not the one with the attention
    others = [n for f, n in pairs if n and f is not far and (f is None or n.floor_us >= f.floor_us)]
    near = max(others if far else [n for _, n in pairs if n], key=lambda side: side.floor_us, default=None)
    where, per = f"On {device.name}, ", "image" if per_image else "batch"
    if far is not None and near is not None:
        return _compared(where, per, far, near)
    if far is not None:
        ways = {backend(result): side for result, (side, _) in zip(results, pairs, strict=True) if side is not None}
        if len(results) == len(ways) == 2:
            return _both_ways(where, per, ways[FUSED], ways[MATERIALISED])
        return _one_sided(where, per, names, far, is_global=True)
    if near is not None:
        return _one_sided(where, per, names, near, is_global=False)
    text = f"Neither attention nor convolution was found in {' and '.join(names)}, so there is nothing to compare."
    return Claim(text, (), Evidence.UNAVAILABLE, "unknown")


def _without_device(results: tuple[AccessResult, ...]) -> Claim:
    """Return what can be said where no device has costs for all runs: each on its own device, or that nothing is known."""
    priced = [(result, own) for result in results if (own := _device((result,)))]
    sides = [(own, *found) for result, own in priced if (found := _larger(*_sides(result, own.key, 1)))]
    if not sides:
        return _unknown(results)
    missing = "; ".join(_unpriced(result) for result in results if all(result is not known for known, _ in priced))
    opening = (
        f"No device has costs for {'both' if len(results) == 2 else 'all'} runs, so they are not compared: "
        f"{missing or 'each has them on its own device alone'}."
    )
    texts = [f"{side.phrase} {span(side.cost_us)} per batch{side.beyond}.{side.aside}" for _, side, _ in sides]
    if len(sides) > 1:
        each = tuple(f"On {device.name}: {text}" for (device, _, _), text in zip(sides, texts, strict=True))
        return Claim(opening, (*each, *(_reason(side) for _, side, _ in sides)), Evidence.MODELLED, "apart")
    device, side, is_global = sides[0]
    far, near = (side.cost_us, None) if is_global else (None, side.cost_us)
    reasons = (_reason(side), *_l2((side,)), *_others((side,)))
    text = f"{opening} On {device.name}, {texts[0]}"
    return Claim(text, reasons, Evidence.MODELLED, "one_sided", "batch", far, near, side.written_us)


def _unknown(results: tuple[AccessResult, ...]) -> Claim:
    who = " and ".join(result.model for result in results) or "this report"
    silent = "; ".join(dict.fromkeys(result.silent for result in results if result.silent))
    if silent:
        return Claim(f"What global and local access cost {who} is not said: {silent}.", (), Evidence.UNAVAILABLE, "unknown")
    text = f"What global and local access cost {who} is not known: no device here has a cache model and a known bandwidth."
    return Claim(text, (), Evidence.UNAVAILABLE, "unknown")


def _unpriced(result: AccessResult) -> str:
    """Return why a run has no costs on its own device."""
    if result.silent:
        return f"{result.model}: {result.silent}"
    if result.own is None:
        return f"the device of {result.model} has no model of its cache and DRAM"
    if not result.own.dram_gbps:
        return f"the DRAM bandwidth of {result.own.name} is not known"
    return f"the access model has no costs of {result.model}"


def _larger(far: _Side | None, near: _Side | None) -> tuple[_Side, bool] | None:
    """Return the access on which a model spends more and whether it is the global one; None where it has neither."""
    if far is not None and (near is None or far.floor_us >= near.floor_us):
        return far, True
    return (near, False) if near is not None else None


def _device(results: tuple[AccessResult, ...]) -> CacheFacts | None:
    """Return the first device that every result has costs on; the run's own comes first."""
    known = [{cost.device for cost in result.costs} for result in results]
    return next((d for r in results[:1] for d in r.devices if all(d.key in keys for keys in known)), None)


def backend(result: AccessResult) -> str:
    """Return the attention of a run, ``fused`` or ``materialised``; where both ran, by what takes longer."""
    if result.attention in (FUSED, MATERIALISED):
        return result.attention
    weights = {FUSED: 0.0, MATERIALISED: 0.0}
    for p in result.patterns:
        if p.pattern in VARIANTS and not p.hypothetical:
            weights[VARIANTS[p.pattern]] += p.time_us or p.calls * p.compulsory_bytes * 1e-12
    return MATERIALISED if weights[MATERIALISED] > weights[FUSED] else FUSED


def _sides(result: AccessResult, device: str, divisor: int) -> tuple[_Side | None, _Side | None]:
    """Return the global and the local access of one model, priced; None for what it has not."""
    used = backend(result)
    costs = [cost for cost in result.costs if cost.device == device]
    variants = {cost.attention: cost for cost in costs if cost.role == GLOBAL_ROLE}
    # a result lists roles without attention once, or once per variant
    there = {(cost.role, cost.attention) for cost in costs}
    own = [c for c in costs if c.role != GLOBAL_ROLE and (c.attention == used or (c.role, used) not in there)]
    chosen = variants.get(used)
    least_us = sum(cost.floor_us for cost in own) + (chosen.floor_us if chosen else 0.0)
    far = _far(result, used, variants, least_us, divisor) if chosen else None
    local = [cost for cost in own if cost.role in LOCAL_ROLES]
    near = _near(result, local, least_us, divisor) if local else None
    dense = [cost.excess_us for cost in own if cost.role == "dense math"]
    more: Band = (sum(low for low, _ in dense) / divisor, sum(high for _, high in dense) / divisor)
    covered = result.modelled_pct if any(p.time_us > 0 for p in result.patterns) else 100.0
    word = time_word(result)
    return (
        replace(far, dense_us=more, covered_pct=covered, time_word=word) if far else None,
        replace(near, dense_us=more, covered_pct=covered, time_word=word) if near else None,
    )


def _own(model: str, what: str) -> str:
    """Return ``what`` as that of ``model``: ``ViT-B/16's attention``, ``the attention of ViT-B/16 (float16)``."""
    return f"the {what} of {model}" if model.endswith(")") else f"{model}'s {what}"


def _near(result: AccessResult, local: list[Cost], least_us: float, divisor: int) -> _Side:
    """Return the local access of one model: what its overlapping windows read again."""
    name = "depthwise convolutions" if all(cost.role == "depthwise" for cost in local) else "convolutions"
    low, high = (sum(cost.excess_us[end] for cost in local) / divisor for end in (0, 1))
    return _Side(
        result.model, (what := _own(result.model, name)), f"reading windows of the image costs {what}", "local access",
        " beyond moving every operand once", (low, high), *_sums(local, divisor), least_us / divisor,
    )  # fmt: skip


def _reach(result: AccessResult) -> str:
    """Return what an output tile of the attention sees: the whole image, or its window."""
    found = [p.locality.dependency for p in result.patterns if p.pattern in VARIANTS and math.isfinite(p.locality.dependency)]
    return "of each window" if found and max(found) < ALMOST_ALL else "of the whole image"


def _far(result: AccessResult, used: str, variants: dict[str, Cost], least_us: float, divisor: int) -> _Side:
    """Return the global access of one model: what its attention reads again or, where it wrote its scores, what that costs."""
    model, reach = result.model, _reach(result)
    chosen, fused = variants[used], variants.get(FUSED)
    low, high = chosen.excess_us[0] / divisor, chosen.excess_us[1] / divisor
    rest = (*_sums([chosen], divisor), least_us / divisor)
    written = _written(variants, divisor)
    if used == FUSED:
        what = _own(model, "fused attention")
        phrase = f"reading keys and values {reach} costs {what}"
        aside = f" Writing the attention scores to memory would cost {span(written)} more." if written else ""
        return _Side(
            model, what, phrase, "global access", " beyond moving every operand once", (low, high), *rest, aside, written
        )
    what = _own(model, "attention with written scores")
    if written is None or fused is None:
        beyond = " beyond moving every operand but the scores once"
        return _Side(model, what, "reading keys, values and scores costs " + what, "this attention", beyond, (low, high), *rest)
    alone = span((fused.excess_us[0] / divisor, fused.excess_us[1] / divisor))
    aside = f" Reading keys and values {reach}, without writing scores, would cost {alone}."
    phrase = f"writing the attention scores to memory costs {model}"
    return _Side(model, what, phrase, "writing scores", " beyond what fused attention takes", written, *rest, aside, written)


def _sums(costs: list[Cost], divisor: int) -> tuple[float, float, Band]:
    """Return floor, L2 excess, and the ratio of bytes weighted by floors."""
    own = sum(cost.floor_us for cost in costs)
    weights = [cost.floor_us / own if own else 1 / len(costs) for cost in costs]
    low, high = (sum(w * cost.bytes_ratio[end] for w, cost in zip(weights, costs, strict=True)) for end in (0, 1))
    return own / divisor, sum(cost.l2_excess_us for cost in costs) / divisor, (low, high)


def _written(variants: dict[str, Cost], divisor: int) -> Band | None:
    """Return what materialised attention takes at the limits of the device more than fused attention."""
    if FUSED not in variants or MATERIALISED not in variants:
        return None
    more, less = variants[MATERIALISED], variants[FUSED]
    base = more.floor_us - less.floor_us
    return (base + more.excess_us[0] - less.excess_us[1]) / divisor, (base + more.excess_us[1] - less.excess_us[0]) / divisor


def _compared(where: str, per: str, far: _Side, near: _Side) -> Claim:
    if far.is_negligible and near.is_negligible:
        outcome = "neither"
        so = (
            f"Both are below {percent(100 * NEGLIGIBLE)} of the least time that their model needs on this device, so neither "
            f"{far.noun} nor {near.noun} separates the two here."
        )
    elif far.cost_us[0] > near.cost_us[1]:
        outcome, so = "global", _so(far, near)
    elif near.cost_us[0] > far.cost_us[1]:
        outcome, so = "local", _so(near, far)
    else:
        outcome = "unclear"
        so = f"The two ranges overlap, so there is no clear difference between {far.noun} and {near.noun} here."
    again = "" if far.beyond == near.beyond else near.beyond
    text = (
        f"{where}{far.phrase} {span(far.cost_us)} per {per}{far.beyond}; {near.phrase} {span(near.cost_us)}{again}. "
        f"{so}{far.aside}"
    )
    reasons = (_reason(far), _reason(near), *_l2((far, near)), *_others((far, near)))
    return Claim(text, reasons, Evidence.MODELLED, outcome, per, far.cost_us, near.cost_us, far.written_us)


def _both_ways(where: str, per: str, fused: _Side, written: _Side) -> Claim:
    """Return the claim on two runs with attention alone, of which one fused it and the other wrote its scores to memory."""
    again = " Both are modelled: the limits of the device, not what the operators took."
    text = f"{where}{written.phrase} {span(written.cost_us)} per {per}{written.beyond}; {fused.phrase} "
    text += f"{span(fused.cost_us)}{fused.beyond}.{again}"
    reasons = (_reason(fused), _reason(written), *_l2((fused, written)), *_others((fused, written)))
    return Claim(text, reasons, Evidence.MODELLED, "both_ways", per, fused.cost_us, None, written.written_us)


def _so(more: _Side, less: _Side) -> str:
    apart = span((more.cost_us[0] - less.cost_us[1], more.cost_us[1] - less.cost_us[0]))
    return f"So {more.noun} costs {more.model} {apart} more than {less.noun} costs {less.model}."


def _one_sided(where: str, per: str, names: list[str], side: _Side, *, is_global: bool) -> Claim:
    if len(names) == 1:
        missing = "there is no second model to compare it with"
    elif is_global:
        missing = "no other model here works with convolutions, so there is nothing to compare it with"
    else:
        missing = f"none of {', '.join(names)} has attention, so there is no global access to compare it with"
    text = f"{where}{side.phrase} {span(side.cost_us)} per {per}{side.beyond}; {missing}.{side.aside}"
    far, near = (side.cost_us, None) if is_global else (None, side.cost_us)
    reasons = (_reason(side), *_l2((side,)), *_others((side,)))
    return Claim(text, reasons, Evidence.MODELLED, "one_sided", per, far, near, side.written_us)


def _reason(side: _Side) -> str:
    low, high = (fixed(value, 2 if value < 10 else 0) for value in side.bytes_ratio)
    ratio = f"{low}x" if low == high else f"{low}x to {high}x"
    floor, least = span((side.floor_us, side.floor_us)), span((side.least_us, side.least_us))
    hidden = side.bytes_ratio[1] > 1 + NEGLIGIBLE and side.is_negligible
    why = "; they cost next to nothing, because arithmetic takes longer than the bytes" if hidden else ""
    whole = side.covered_pct >= WELL_COVERED
    what = "the whole model" if whole else f"what has an access model ({percent(side.covered_pct)} of the {side.time_word})"
    return (
        f"{side.what}: {ratio} the compulsory bytes go through DRAM{why}. With every operand moved once its least time is "
        f"{floor}, of {least} for {what}; the cost above is at most {percent(side.share_pct)} of that."
    )


def _others(sides: tuple[_Side, ...]) -> tuple[str, ...]:
    """Return what is no part of the comparison and may cost more than it: the linear layers."""
    dear = [f"{side.model} {span(side.dense_us)}" for side in sides if side.dense_us[1] > NEGLIGIBLE * side.least_us]
    if not dear:
        return ()
    return (
        f"Linear layers: no part of this comparison, and neither are convolutions without overlap; what their tiles read again "
        f"costs {' and '.join(dear)}, with the tiles and over the orders of blocks that the table of kernels has.",
    )


def _l2(sides: tuple[_Side, ...]) -> tuple[str, ...]:
    """Return what L2 adds to the costs; that it is not priced, where its bandwidth is not known."""
    if any(math.isnan(side.l2_us) for side in sides):
        return (
            "Cache to cores: not priced, because the bandwidth of the device's last-level cache is unknown; costs are of DRAM.",
        )
    dear = [f"{span((side.l2_us, side.l2_us))} of {side.what}" for side in sides if side.l2_us > 0]
    return (f"L2 to multiprocessors: sets the pace for {' and '.join(dear)}, which is in the costs above.",) if dear else ()


def span(band: Band) -> str:
    """Return microseconds (low, high) in words: ``0.02 to 0.05 ms``, ``0.4 to 1.2 µs``, ``nothing``."""
    low, high = band
    if low == high == 0:
        return "nothing"
    largest = max(abs(low), abs(high))
    if largest < 0.05:
        return "under 0.1 µs"
    scale, unit, places = (1.0, "µs", 1) if largest < 10 else (1e3, "ms", 2 if largest < 1e5 else 0)
    first, last = fixed(low / scale, places), fixed(high / scale, places)
    return f"{last} {unit}" if first == last else f"{first} to {last} {unit}"


def against_gap(found: Claim, gap_us: float) -> str:
    """Return what share of a measured gap per batch the two costs can make at most; empty where one is missing.

    Empty as well where both cost nothing, which the claim says already.
    """
    if found.global_us is None or found.local_us is None or found.per != "batch" or not gap_us:
        return ""
    most = max(abs(found.global_us[1] - found.local_us[0]), abs(found.local_us[1] - found.global_us[0]))
    if not most:
        return ""
    apart = span((most, most))
    return (
        f"Against the measured gap: the models are {span((abs(gap_us), abs(gap_us)))} per batch apart; the two costs differ by "
        f"{apart if apart.startswith('under') else f'at most {apart}'}, {percent(100 * most / abs(gap_us))} of that."
    )


def time_word(result: AccessResult) -> str:
    """Return what the times of the patterns of a run are shares of: ``kernel time``, on a CPU ``operator time``."""
    return "operator time" if result.own is not None and result.own.key == "cpu" else "kernel time"


def coverage(results: tuple[AccessResult, ...]) -> str:
    """Return how much of each run has an access model: of the kernel time, or of the list of layers where nothing ran."""
    texts = []
    for result in results:
        if any(p.time_us > 0 for p in result.patterns):
            texts.append(f"{percent(result.modelled_pct)} of the {time_word(result)} of {result.model}")
        else:
            missing = f" ({len(result.left_out)} left out)" if result.left_out else ""
            layers = sum(not p.hypothetical for p in result.patterns)
            texts.append(f"{counted(layers, 'distinct layer', 'distinct layers')} of {result.model}{missing}")
    return f"The access model covers {' and '.join(texts)}." if texts else ""
