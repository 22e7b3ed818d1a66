"""How the gap between a ViT and a CNN moves from device to device and from setting to setting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from analyzer.insight.comparison.basis import batch_time, device_name, is_untraced, settings_of
from analyzer.insight.comparison.ratios import time_ratio
from analyzer.schema.comparison import GapMove
from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Evidence, Quantity

Conditions = tuple[tuple[str, str], ...]
Place = tuple[str, Conditions, Conditions]
"""A device by its name, the settings and versions of a run there, and the limits of the device."""


def find_moves(runs: Sequence[Digest]) -> tuple[GapMove, ...]:
    """Return every ViT with every CNN that ran on the same device under the same settings and versions.

    Settings that belong to one of both alone (the implementation of attention) may differ. Of several runs of one model under
    the same conditions the first goes with the first of the other, the second with the second.
    """
    places: dict[Place, dict[str, dict[str, list[int]]]] = defaultdict(
        lambda: {"vit": defaultdict(list), "cnn": defaultdict(list)}
    )
    for number, run in enumerate(runs):
        if run.family in ("vit", "cnn") and run.batches:
            places[(run.device.name, settings_of(run), _limits(run))][run.family][run.label].append(number)
    pairs: dict[tuple[str, str], list[tuple[Place, int, int]]] = defaultdict(list)
    for place, found in places.items():
        for vit, vits in found["vit"].items():
            for cnn, cnns in found["cnn"].items():
                pairs[(vit, cnn)] += [(place, *numbers) for numbers in zip(vits, cnns, strict=False)]
    out = []
    for group in pairs.values():
        there = [place for place, _, _ in group]
        out += [_move(runs, _words(place, there), (vit, cnn)) for place, vit, cnn in group]
    return tuple(sorted(out, key=lambda move: (move.vit, move.cnn)))


def _words(place: Place, places: Sequence[Place]) -> str:
    """Return what sets ``place`` apart among ``places``, where the same two models ran; limits among those of its device."""
    device, settings, limits = place
    fixed = _common([each for _, each, _ in places])
    own = _common([each for name, _, each in places if name == device])
    said = [each for each in settings if each not in fixed] + [each for each in limits if each not in own]
    return ", ".join(f"{name} {value}".strip() for name, value in said)


def _common(conditions: Sequence[Conditions]) -> set[tuple[str, str]]:
    return set.intersection(*map(set, conditions)) if conditions else set()


def _limits(run: Digest) -> Conditions:
    """Return what may differ between two devices of one name: part of the device (MIG), or another power cap."""
    d, out = run.device, []
    if d.sm_count:
        out.append(("multiprocessors:", str(d.sm_count)))
    if d.power_limit_w:
        out.append(("power cap", f"{d.power_limit_w:g} W"))
    return tuple(out)


def _move(runs: Sequence[Digest], conditions: str, pair: tuple[int, int]) -> GapMove:
    vit, cnn = (runs[number] for number in pair)
    if is_untraced(vit) and is_untraced(cnn):
        found = time_ratio(vit, cnn)
    else:
        source = f"ratio of the times, {vit.ledger.basis}; no interval"
        found = Quantity(vit.ledger.total_us / cnn.ledger.total_us, "x", Evidence.DERIVED, source=source)
    return GapMove(device_name(vit), *pair, found, batch_time(vit), batch_time(cnn), conditions)
