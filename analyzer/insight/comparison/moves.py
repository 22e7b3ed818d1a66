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


def find_moves(runs: Sequence[Digest]) -> tuple[GapMove, ...]:
    """Return every ViT with every CNN that ran on the same device under the same settings and versions.

    Settings that belong to one of both alone (the implementation of attention) may differ. Of several runs of one model under
    the same conditions the first goes with the first of the other, the second with the second.
    """
    places: dict[tuple[str, Conditions, Conditions], dict[str, dict[str, list[int]]]] = defaultdict(
        lambda: {"vit": defaultdict(list), "cnn": defaultdict(list)}
    )
    for number, run in enumerate(runs):
        if run.family in ("vit", "cnn") and run.batches:
            places[(run.device.name, settings_of(run), _limits(run))][run.family][run.label].append(number)
    paired = {place: found for place, found in places.items() if found["vit"] and found["cnn"]}
    fixed = _common([settings for _, settings, _ in paired])
    out = []
    for (device, settings, limits), found in paired.items():
        own = [others for name, _, others in paired if name == device]
        said = [each for each in settings if each not in fixed] + [each for each in limits if each not in _common(own)]
        words = ", ".join(f"{name} {value}".strip() for name, value in said)
        for vits in found["vit"].values():
            for cnns in found["cnn"].values():
                out += [_move(runs, words, pair) for pair in zip(vits, cnns, strict=False)]
    return tuple(sorted(out, key=lambda move: (move.vit, move.cnn)))


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
