"""The other question about a gap: what of it would remain if both models worked at the same rate, role by role.

LMDI-I (additive logarithmic mean Divisia index; Ang, The LMDI approach to decomposition analysis, Energy Policy 33, 2005). The
time of a role is work x traffic x rate: the floor of its work, that floor with the bytes that really move over the first, and
the time over the second. With L(x, y) = (x - y) / ln(x / y), each factor f contributes L(T1, T2) ln(f1 / f2), and the three add
up to the difference.
"""

from __future__ import annotations

import math
from collections import defaultdict

from analyzer.schema.ledger import KERNEL_TERMS, UNEXPLAINED, Ledger
from analyzer.schema.results import RoleEffect

ABSENT_SHARE = 0.02
"""A role that takes less than this share of its time in the other run counts as absent: ratios of next to nothing say
nothing."""

FACTORED = tuple(term for term in KERNEL_TERMS if term not in (*UNEXPLAINED, "no_floor", "copies"))


def logarithmic_mean(x: float, y: float) -> float:
    """Return (x - y) / ln(x / y) for positive numbers, x where they are equal."""
    ratio = (x - y) / y
    if abs(ratio) < 1e-6:  # the quotient cancels; its series does not
        return y * (1 + ratio / 2 - ratio * ratio / 12)
    return (x - y) / math.log(x / y)


def role_effects(first: Ledger, second: Ledger) -> tuple[RoleEffect, ...]:
    """Return what work, traffic and rate of each role contribute to ``first`` - ``second``; all of them add up to it.

    Work is in time at the limits of each run's device. A role that one run does not have is all work. What has no factors
    (waiting, copies, no model, tracing) is ``other``.
    """
    one, two = _by_role(first), _by_role(second)
    roles = [_effect(role, one[role], two[role]) for role in dict.fromkeys((*one, *two))]
    return tuple(sorted((r for r in roles if r.first_us or r.second_us), key=lambda r: -abs(r.first_us - r.second_us)))


class _Sums:
    """Floor of the work, floor with traffic, time with factors, and time without, of one role in µs."""

    def __init__(self) -> None:
        self.work = self.moved = self.time = self.other = 0.0


def _by_role(ledger: Ledger) -> defaultdict[str, _Sums]:
    out: defaultdict[str, _Sums] = defaultdict(_Sums)
    for entry in ledger.entries:
        sums = out[entry.role]
        if entry.term not in FACTORED:
            sums.other += entry.us
            continue
        sums.time += entry.us
        sums.work += entry.us if entry.term == "work" else 0.0
        sums.moved += entry.us if entry.term in ("work", "locality") else 0.0
    return out


def _effect(role: str, a: _Sums, b: _Sums) -> RoleEffect:
    times, other = (a.time + a.other, b.time + b.other), a.other - b.other
    delta = a.time - b.time
    less, more = sorted((a, b), key=lambda sums: sums.time)
    absent = less.time <= ABSENT_SHARE * more.time
    if absent and less.other <= ABSENT_SHARE * more.time:
        return RoleEffect(role, *times, work_us=delta, traffic_us=0.0, rate_us=0.0, other_us=other)
    if absent or min(a.work, b.work, a.moved, b.moved) <= 0:
        return RoleEffect(role, *times, work_us=0.0, traffic_us=0.0, rate_us=0.0, other_us=delta + other)
    mean = logarithmic_mean(a.time, b.time)
    # differences of logarithms: the quotients of very small numbers would leave the range of floats
    work, moved, time = (math.log(x) - math.log(y) for x, y in ((a.work, b.work), (a.moved, b.moved), (a.time, b.time)))
    work, traffic, rate = mean * work, mean * (moved - work), mean * (time - moved)
    return RoleEffect(role, *times, work_us=work, traffic_us=traffic, rate_us=rate, other_us=other)
