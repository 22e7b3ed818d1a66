"""What changed between two runs of one model: in all, by kind, by module and by operator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analyzer.insight.comparison.basis import is_untraced, per_image, same_images, same_input, same_model
from analyzer.insight.comparison.gains import TRANSFER
from analyzer.insight.comparison.identity import natural
from analyzer.insight.comparison.matching import Cell, Matching, cell_of, main_kind
from analyzer.insight.comparison.ratios import difference, spread, time_ratio
from analyzer.insight.ledger import WAITING
from analyzer.schema.comparison import Change, ChangeBy, ChangeState
from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Evidence, Quantity

ONE_MODEL_PCT = 90.0
"""Two runs of unnamed models run one model if this share of the time of either finds its operator in the other."""
BATCH, IMAGE, KERNELS = "time of one batch", "time of one image", "kernel time"
NO_MODULE = "(no module)"
IDLE, BETWEEN = "idle", "dispatch and time between operators"
"""The time of a batch without a kernel: on a GPU, and on a CPU."""

OTHER_INPUT = "the batches differ in size, so the difference is not called clear"
FILLS = "; where operators are matched, copies and fills count with the operator that called them"

Named = tuple[str, Cell]


def is_one_model(runs: Sequence[Digest], matched_pct: Sequence[float]) -> bool:
    """Tell whether exactly two runs are compared and run one model on one type of device."""
    if len(runs) != 2:
        return False
    if all(run.facts is not None for run in runs):
        return same_model(*runs) and runs[0].device.type == runs[1].device.type
    return min(matched_pct) >= ONE_MODEL_PCT  # never of NaN: no kernel ran


def find_changes(runs: Sequence[Digest], matching: Matching, baseline: int, min_effect_pct: float) -> tuple[Change, ...]:
    """Return what became of each part of the model from the baseline to the other run, the whole first.

    A change is clear where its 95 % interval leaves 0 out and it is at least ``min_effect_pct`` of the time of its part. The
    interval rests on the spread of the traced steps and, where runs were timed in several processes, on that of their medians
    (``ratios.spread``); the whole batch has that of the untraced medians. Intervals are of one part each: of a hundred parts
    that did not change, a few may seem to. On inputs of different sizes operators differ in their shapes, so there are none,
    and no difference of batch times is called clear; where only the sizes of the batches differ, that of one image may be.
    """
    if not is_one_model(runs, matching.matched_pct):
        return ()
    pair = _Pair(runs[baseline], runs[1 - baseline], min_effect_pct)
    cells = matching.tables[baseline], matching.tables[1 - baseline]
    kinds = [
        _sums((str(row.kind), cell_of(row)) for row in run.groups.itertuples(index=False)) for run in (pair.first, pair.second)
    ]
    modules = [_sums((key.module or NO_MODULE, cell) for key, cell in table.items()) for table in cells]
    operators = [_sums((f"{key.op} {key.shapes}".strip(), cell) for key, cell in table.items()) for table in cells]
    out = pair.whole(kinds)
    out += [*pair.parts("kind", *kinds), *pair.idle()]
    out += pair.parts("module", *modules)
    if same_input(pair.first, pair.second):
        out += pair.parts("operator", *operators)
    return tuple(out)


def _sums(cells: Iterable[Named]) -> dict[str, Cell]:
    out: dict[str, Cell] = {}
    for name, cell in cells:
        if name not in out:
            out[name] = Cell(cell.op, cell.shapes)
        out[name].add(cell)
    return out


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two runs of one model, and the smallest effect that counts."""

    first: Digest
    second: Digest
    min_effect_pct: float

    def whole(self, kinds: Sequence[dict[str, Cell]]) -> list[Change]:
        """Return the change of the time of one batch, and of the sum of its kernels."""
        totals = [_sums((KERNELS, cell) for cell in cells.values()) for cells in kinds]
        rows = self.parts("model", *totals)
        first_us, second_us = self.first.ledger.total_us, self.second.ledger.total_us
        if self.first.ledger.basis != self.second.ledger.basis:
            return rows  # one with the profiler and one without, or a whole trace: their difference means nothing
        batch = self._change("model", BATCH, "", (first_us, second_us), self._of_medians(first_us, second_us), ((), ()))
        return [batch, *self._image(), *rows]

    def _of_medians(self, first_us: float, second_us: float) -> tuple[tuple[float, float] | None, str]:
        """Return the interval of the difference of two medians: that of their ratio, so that both say the same."""
        if not (is_untraced(self.first) and is_untraced(self.second)):
            return None, f"{self.first.ledger.basis}; no interval"
        taken = time_ratio(self.second, self.first)
        if not taken.value or taken.low is None or taken.high is None:
            return None, f"difference of the untraced medians; {taken.source}"
        scale = second_us / taken.value
        ends = taken.low * scale - first_us, taken.high * scale - first_us
        return ends, f"difference of the untraced medians; {taken.source}"

    def _image(self) -> list[Change]:
        """Return the change of the time of one image, where batches of different sizes hold images of one size."""
        if self.same_input or not same_images(self.first, self.second):
            return []
        us = [1e3 * (per_image(run)[0].value or 0.0) for run in (self.first, self.second)]
        if not all(us):
            return []
        ends, source = self._of_medians(us[0], us[1])
        found = self._delta(us[0], us[1], ends, f"{source}; per image")
        return [Change("model", IMAGE, "", us[0], us[1], found, state_of(found, us[0], self.min_effect_pct))]

    @property
    def same_input(self) -> bool:
        """Tell whether both runs take batches of the same size and images."""
        return same_input(self.first, self.second)

    def parts(self, by: ChangeBy, first: dict[str, Cell], second: dict[str, Cell]) -> list[Change]:
        """Return a change per name, the largest first."""
        rows = [self._part(by, name, first.get(name), second.get(name)) for name in dict.fromkeys((*first, *second))]
        return sorted(rows, key=lambda row: (-abs(row.second_us - row.first_us), natural(row.name)))

    def idle(self) -> list[Change]:
        """Return the change of the time without a kernel, which has no interval of its own."""
        if self.first.ledger.basis != self.second.ledger.basis:
            return []
        us = [sum(e.us for e in run.ledger.entries if e.kind == WAITING) for run in (self.first, self.second)]
        source = "time of a batch in which no kernel runs, scaled to untraced time; it has no interval"
        name = IDLE if self.first.device.type == "cuda" else BETWEEN
        return [self._change("kind", name, WAITING, (us[0], us[1]), (None, source), ((), ()))] if any(us) else []

    def _part(self, by: ChangeBy, name: str, first: Cell | None, second: Cell | None) -> Change:
        there = [cell for cell in (first, second) if cell]
        kind = "" if by == "model" else main_kind(max(there, key=lambda cell: cell.time_us))
        times = first.time_us if first else 0.0, second.time_us if second else 0.0
        kernels = first.kernels if first else (), second.kernels if second else ()
        if by == "model":
            kernels = ((), ())
        return self._change(by, name, kind, times, self._interval(first, second), kernels, _presence(first, second))

    def _interval(self, first: Cell | None, second: Cell | None) -> tuple[tuple[float, float] | None, str]:
        if not first or not second:
            there = first or second
            return None, "it is in one of the runs alone" + (FILLS if there and TRANSFER in there.kinds else "")
        one, two = spread(first.steps, self.first), spread(second.steps, self.second)
        ends = difference(one, two) if one and two else None
        if ends is None:
            return None, "too few traced steps for an interval"
        between = all(run.latency is not None and run.latency.processes > 1 for run in (self.first, self.second))
        of = "the traced steps and the spread between processes" if between else "the traced steps of one process"
        return ends, f"difference of the means, 95 % interval from {of}"

    def _change(
        self, by: ChangeBy, name: str, kind: str, times: tuple[float, float],
        interval: tuple[tuple[float, float] | None, str], kernels: tuple[tuple[str, ...], tuple[str, ...]],
        presence: ChangeState | None = None,
    ) -> Change:  # fmt: skip
        ends, source = interval
        found = self._delta(*times, ends, source if self.same_input else f"{source}; {OTHER_INPUT}")
        state = presence or ("unclear" if not self.same_input else state_of(found, times[0], self.min_effect_pct))
        return Change(by, name, kind, *times, found, state, kernels)

    def _delta(self, first_us: float, second_us: float, ends: tuple[float, float] | None, source: str) -> Quantity:
        delta = second_us - first_us
        low, high = (min(ends[0], delta), max(ends[1], delta)) if ends else (None, None)
        return Quantity(delta, "us", Evidence.DERIVED, low, high, source)


def _presence(first: Cell | None, second: Cell | None) -> ChangeState | None:
    return "added" if first is None else "removed" if second is None else None


def state_of(delta: Quantity, first_us: float, min_effect_pct: float) -> ChangeState:
    """Return what a difference to ``first_us`` amounts to, given its interval; without one it is never a clear change."""
    least = min_effect_pct / 100 * abs(first_us)
    if delta.value is None or delta.value == 0:
        return "unclear" if delta.value is None else "same"
    if delta.low is None or delta.high is None:
        return "unclear"
    if delta.low > 0 and delta.value >= least:
        return "slower"
    if delta.high < 0 and delta.value <= -least:
        return "faster"
    return "same" if -least <= delta.low and delta.high <= least else "unclear"
