"""Findings on the shapes of launches: sequences that do not fill their tiles, and low occupancy that costs nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analyzer.insight.rules.selection import per, shown, waiting_note
from analyzer.insight.rules.statement import WORTH_PCT, fact, mean, saving, step_us, steps_of
from analyzer.schema.access import PatternAccess
from analyzer.schema.evidence import Evidence
from analyzer.schema.findings import Finding
from analyzer.schema.results import Analysis

PADDED_PCT = 10.0
"""Less padding than this is lost among the other costs of a kernel."""
LOW_OCCUPANCY_PCT = 25.0
"""Occupancy that readers take for a fault: a quarter of the warps or less."""
NEAR_LIMIT_PCT = 50.0
"""A kernel with half of its limit or more could at most double its speed, whatever its occupancy."""

_M, _D, _MOD = Evidence.MEASURED, Evidence.DERIVED, Evidence.MODELLED
_TILE = re.compile(r"(\d{1,5}) x (\d{1,5})\b")
_SHAPE = re.compile(r"\d+(?:x\d+){3}")


@dataclass(frozen=True, slots=True)
class Padding:
    """One attention and its tile, in tokens. ``time_us`` is the time of all its calls as the access model counts it."""

    queries: int
    keys: int
    tile_q: int
    tile_k: int
    time_us: float
    kernel: str
    sure: tuple[bool, bool]

    @property
    def whole(self) -> tuple[int, int]:
        """Return queries and keys rounded up to whole tiles."""
        return math.ceil(self.queries / self.tile_q) * self.tile_q, math.ceil(self.keys / self.tile_k) * self.tile_k

    @property
    def share(self) -> float:
        """Return the share of the products that is padding."""
        return 1 - self.queries * self.keys / math.prod(self.whole)


def padded_sequence(a: Analysis) -> Finding | None:
    """Return that fused attention computes whole tiles where its sequence fills only a part of them.

    Padded share of one attention: 1 - queries x keys / (both rounded up to whole tiles); of several, weighted by their time.
    The saving lies between nothing and that share of the time above the memory floor, because padding moves no bytes.

    Approximation: attention time above its memory floor grows with the tiles it computes, padded ones at full cost.
    """
    every = tuple(_paddings(a)) if a.device.type == "cuda" else ()
    used, above = _attention_times(a, every)
    if not every or sum(used) <= 0:
        return None
    most = max(range(len(every)), key=lambda i: used[i] * every[i].share)
    one, time = every[most], sum(used)
    share = 100 * mean(np.array([p.share for p in every]), np.array(used))
    if share < PADDED_PCT or one.share <= 0 or 100 * time < WORTH_PCT * step_us(a):
        return None
    queries, keys = fact("queries", one.queries, "count", _M), fact("keys", one.keys, "count", _M)
    tile_q = fact("queries per tile", one.tile_q, "count", _D if one.sure[0] else _MOD)
    tile_k = fact("keys per tile", one.tile_k, "count", _D if one.sure[1] else _MOD)
    whole_q = fact("queries in whole tiles", one.whole[0], "count", tile_q.figure.evidence)
    whole_k = fact("keys in whole tiles", one.whole[1], "count", tile_k.figure.evidence)
    padded = fact("padded share of the products, all fused attention", share, "%", _MOD)
    spent = fact("time of fused attention", time, "us", _M)
    doubt = "" if all(one.sure) else " The tile written with ≈ is assumed, not read from the kernel."
    note, more = waiting_note(a)
    return Finding(
        "padded_sequence",
        a.run.name,
        "Attention pads its sequence to whole tiles",
        f"The attention with the most padding has {shown(queries)} queries and {shown(keys)} keys. Its kernel takes "
        f"{shown(tile_q)} queries and {shown(tile_k)} keys at a time, so it computes {shown(whole_q)} by {shown(whole_k)} "
        f"products. Over all fused attention ({shown(spent)} {per(a)}), {shown(padded)} of the products are padding. Tokens up "
        f"to whole tiles would cost little more time; a backend with smaller tiles pads less.{doubt}{note}",
        (queries, keys, tile_q, tile_k, whole_q, whole_k, padded, spent, *more),
        saving(a, 0.0, sum(p.share * us for p, us in zip(every, above, strict=True)), time),
        step_us(a),
        "a larger change",
        f"Time this attention alone with {shown(whole_q)} queries and {shown(whole_k)} keys. If it takes clearly longer than "
        "now, the padding did not cost what is said here.",
        "access",
    )


def _paddings(a: Analysis) -> Iterator[Padding]:
    for pattern in a.access.patterns if a.access else ():
        tile = _TILE.match(pattern.tiles)
        lengths = _lengths(pattern)
        if pattern.pattern == "attention_fused" and not pattern.hypothetical and tile and lengths:
            named = pattern.confidence != "assumed"
            sure = (named, named and "keys per step assumed" not in pattern.tiles)
            yield Padding(*lengths, int(tile[1]), int(tile[2]), pattern.time_us, pattern.kernel, sure)


def _lengths(pattern: PatternAccess) -> tuple[int, int] | None:
    """Return queries and keys. Heads may stand before or behind the tokens: the FLOP of the full product tell which."""
    shapes = [tuple(map(int, text.split("x"))) for text in _SHAPE.findall(pattern.shapes)]
    if len(shapes) < 2:
        return None
    (batch, *q, width), (_, *k, _) = shapes[:2]
    value = shapes[2][-1] if len(shapes) > 2 else width
    for tokens in (0, 1):
        queries, keys, heads = q[tokens], k[tokens], q[1 - tokens]
        flop = 2.0 * batch * heads * queries * keys * (width + value)
        if flop > 0 and math.isclose(flop, pattern.flop, rel_tol=1e-6):
            return queries, keys
    return None


def _attention_times(a: Analysis, every: tuple[Padding, ...]) -> tuple[list[float], list[float]]:
    """Return the time per step of each attention, and what of it is above its memory floor, in µs.

    The launches of a kernel are divided among its shapes as the access model divides their time.
    """
    rows = a.launches[a.launches["kind"].eq("attention") & a.launches["geometry_confidence"].ne("")]
    sums = rows.groupby("kernel")[["exclusive_us", "floor_memory_us"]].sum()
    used, above = [], []
    for one in every:
        mine = sum(p.time_us for p in every if p.kernel == one.kernel)
        known = one.kernel in sums.index and mine > 0
        part = one.time_us / mine / steps_of(a) if known else 0.0
        time = float(sums["exclusive_us"].get(one.kernel, 0.0)) * part
        used.append(time)
        above.append(max(time - float(sums["floor_memory_us"].get(one.kernel, 0.0)) * part, 0.0))
    return used, above


def low_occupancy_fine(a: Analysis) -> Finding | None:
    """Return that kernels with low occupancy reach much of their limit all the same, so occupancy is not what holds them up.

    Their limit is the higher of their floors (FLOP / peak, compulsory bytes / bandwidth), so the share reached is a lower
    bound where they move more bytes than those. Counted are kernels whose registers, shared memory and block size allow no
    higher occupancy; where only a small grid keeps it low, it says something else.
    """
    rows = a.launches[a.launches["category"].eq("kernel") & a.launches["floor_us"].gt(0) & a.launches["occupancy_pct"].notna()]
    rows = rows.assign(weighted=rows["occupancy_pct"] * rows["exclusive_us"])
    sums = rows.groupby("kernel")[["exclusive_us", "floor_us", "weighted"]].sum()
    sums = sums.assign(allowed=rows.groupby("kernel")["occupancy_theoretical_pct"].max())
    sums = sums[sums["exclusive_us"] > 0]
    reached = 100 * sums["floor_us"] / sums["exclusive_us"]
    low = (sums["weighted"] / sums["exclusive_us"] <= LOW_OCCUPANCY_PCT) & sums["allowed"].le(LOW_OCCUPANCY_PCT)
    fine = sums[low & reached.between(NEAR_LIMIT_PCT, 100.0)]
    time, total = float(fine["exclusive_us"].sum()), a.totals.kernel_time_us
    if fine.empty or 100 * time < WORTH_PCT * total:
        return None
    share = fact("share of the kernel time", 100 * time / total, "%", _D)
    occupancy = fact("occupancy, mean over their time", float(fine["weighted"].sum()) / time, "%", _D)
    limit = fact("of the limit of the device reached", 100 * float(fine["floor_us"].sum()) / time, "%", _MOD)
    number = fact("kernels", len(fine), "count", _M)
    return Finding(
        "low_occupancy_fine",
        a.run.name,
        "Low occupancy that is no fault",
        f"Kernels with an occupancy of only {shown(occupancy)} (mean) take {shown(share)} of the kernel time, yet they reach "
        f"{shown(limit)} of what arithmetic in their number format or memory allow (distinct kernels: {shown(number)}). Their "
        "registers, shared memory or block size allow no more warps. Such kernels usually overlap loads with arithmetic inside "
        "a block, so they need few.",
        (share, occupancy, limit, number),
        None,
        step_us(a),
        "none",
        "A build of the same layer with smaller tiles or fewer registers, so with higher occupancy, that runs faster.",
        "occupancy",
        "note",
    )
