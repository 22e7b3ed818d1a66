"""What a whole model moves per image on one device, summed over its layers, and what writing scores out adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analyzer.format import digits, fixed
from analyzer.schema.access import AccessResult, CacheFacts, PatternAccess

FUSED, MATERIALISED, AS_RUN = "fused", "materialised", ""
PATTERNS = {FUSED: "attention_fused", MATERIALISED: "attention_materialised"}


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes per image of one model on one device. ``way``: how its attention runs; empty without one, or where both do.

    ``dram_bytes`` (low, high) sums over layers of which each finds the cache empty, over every order that is plausible.
    """

    model: str
    device: str
    way: str
    flop: float
    compulsory_bytes: float
    l2_sm_bytes: float
    dram_bytes: tuple[float, float]


def moved(result: AccessResult, device: str) -> tuple[Moved, ...]:
    """Return the sums of ``result`` on the device with key ``device``: as it runs, and with its attention the other way.

    Nothing where a layer is too large to be worked out. A model whose attention runs in parts has the sum as it runs alone.
    """
    ran = [p for p in result.patterns if not p.hypothetical]
    if not ran or any(device not in p.traffic for p in result.patterns):
        return ()
    found = [_sum(result, ran, device, result.attention if result.attention in PATTERNS else AS_RUN)]
    if result.attention == FUSED:
        rest = [p for p in ran if p.pattern != PATTERNS[FUSED]]
        written = [p for p in result.patterns if p.pattern == PATTERNS[MATERIALISED]]
        found.append(_sum(result, rest + written, device, MATERIALISED))
    return tuple(found)


def _sum(result: AccessResult, rows: list[PatternAccess], device: str, way: str) -> Moved:
    images = max(result.batch_size, 1)
    low, high = (sum(p.calls * p.traffic[device].total[end] for p in rows) / images for end in (0, 1))
    return Moved(
        model=result.model,
        device=device,
        way=way,
        flop=sum(p.calls * p.flop for p in rows) / images,
        compulsory_bytes=sum(p.calls * p.compulsory_bytes for p in rows) / images,
        l2_sm_bytes=sum(p.calls * sum(p.l2_sm_bytes) for p in rows) / images,
        dram_bytes=(low, high),
    )


def written_ratio(result: AccessResult, device: str) -> tuple[float, float] | None:
    """Return DRAM bytes of attention with written scores over fused: low over low, high over high; None without attention."""
    sums = {}
    for way, pattern in PATTERNS.items():
        rows = [p for p in result.patterns if p.pattern == pattern]
        if not rows or any(device not in p.traffic for p in rows):
            return None
        sums[way] = [sum(p.calls * p.traffic[device].total[end] for p in rows) for end in (0, 1)]
    if not min(sums[FUSED]) > 0:
        return None
    ratios = sorted(more / less for more, less in zip(sums[MATERIALISED], sums[FUSED], strict=True))
    return ratios[0], ratios[1]


def words(way: str) -> str:
    """Return a way of attention in words."""
    return {FUSED: "fused attention", MATERIALISED: "scores written out"}.get(way, "")


def band(low: float, high: float, places: int = 0) -> str:
    """Return both ends of a band as text, one where they look the same."""
    first, last = fixed(low, places), fixed(high, places)
    return last if first == last else f"{first} to {last}"


def scale_of(found: Sequence[Moved]) -> tuple[float, str]:
    """Return the bytes of the unit, MB or GB, that suits all of ``found``, and its name."""
    largest = max((m.dram_bytes[1] for m in found), default=0.0)
    return (1e9, "GB") if largest >= 1e9 else (1e6, "MB")


def lines(results: tuple[AccessResult, ...], devices: tuple[CacheFacts, ...]) -> tuple[str, ...]:
    """Return one sentence per device on the DRAM bytes of each model per image, then those on attention with written scores."""
    out = []
    for device in devices:
        sums = [found for result in results if (found := moved(result, device.key))]
        if sums:
            scale = scale_of([m for found in sums for m in found])
            out.append(f"{device.name}, DRAM per image: {'; '.join(_said(found, scale) for found in sums)}.")
    for result in results:
        ratios = [(d.name, r) for d in devices if (r := written_ratio(result, d.key)) is not None]
        if ratios:
            first, *others = [(f"{band(*r, 1)} times", f"on {name}") for name, r in ratios]
            text = f"{first[0]} the DRAM bytes of fused attention {first[1]}"
            named = ", ".join([text, *(" ".join(other) for other in others)])
            out.append(f"Attention of {result.model} with scores written out moves {named}.")
    return tuple(out)


def _said(found: Sequence[Moved], scale: tuple[float, str]) -> str:
    divisor, unit = scale
    texts = []
    for m in found:
        low, high = (digits(value / divisor) for value in m.dram_bytes)
        text = f"{high} {unit}" if low == high else f"{low} to {high} {unit}"
        texts.append(text + (f" with {words(m.way)}" if m.way else ""))
    texts[0] += f" ({digits(found[0].compulsory_bytes / divisor)} {unit} compulsory)"
    return f"{found[0].model} {', '.join(texts)}"
