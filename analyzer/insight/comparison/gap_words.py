"""How the gap between a ViT and a CNN moves from place to place, in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from analyzer.format import counted, interval, milliseconds, times
from analyzer.insight.comparison.sentences import GAP, MAX_REASONS, Found, Said, as_long, is_clear, offer_words, tail, taken
from analyzer.schema.comparison import GapMove
from analyzer.schema.evidence import Quantity
from analyzer.schema.results import Reason


def moved(found: Found) -> Said | None:
    """Say how the gap between one ViT and one CNN moved: the pair that most places have, if several that of the baseline."""
    if not found.moves:
        return None
    pairs = Counter(map(found.labels, found.moves))
    asked = {found.labels(m) for m in found.moves if found.baseline in (m.vit, m.cnn)}
    vit, cnn = max(pairs, key=lambda pair: (pairs[pair], pair in asked))
    moves = [m for m in found.moves if found.labels(m) == (vit, cnn)]
    moves.sort(key=lambda m: (found.baseline not in (m.vit, m.cnn), m.vit, m.cnn))
    reasons = tuple(Reason(f"{_where(found, m, moves)}: {_gap_words(m, vit, cnn)}", GAP) for m in moves[:MAX_REASONS])
    others = len(found.moves) - len(moves)
    more = f" {counted(others, 'pair of other models is', 'pairs of other models are')} in the table." if others else ""
    if len(moves) == 1:
        headline = f"{_gap_words(moves[0], vit, cnn)} on {_where(found, moves[0], moves)}"
    elif len(moves) == 2:
        headline = _two_places(found, moves[0], moves[1], (vit, cnn))
    else:
        headline = _many_places(found, moves, vit, cnn)
    return headline, _times_words(found, moves, vit, cnn) + offer_words(found) + more, reasons


def _where(found: Found, move: GapMove, moves: Sequence[GapMove]) -> str:
    """Return the device; where it stands several times with its conditions, or else with what tells the run apart."""
    alike = [m for m in moves if m.device == move.device]
    if len(alike) == 1:
        return move.device
    if move.conditions and sum(m.conditions == move.conditions for m in alike) == 1:
        return f"{move.device} ({move.conditions})"
    return f"{move.device} ({tail(found, move.vit)})"


def _gap_words(move: GapMove, vit: str, cnn: str) -> str:
    if is_clear(move.ratio) is False:
        return f"{vit} and {cnn} do not clearly differ ({times(move.ratio)}, {interval(move.ratio)})"
    return f"{vit} takes {times(move.ratio)} as long as {cnn} ({interval(move.ratio) or 'no interval'})"


def _two_places(found: Found, first: GapMove, second: GapMove, labels: tuple[str, str]) -> str:
    if (first.device, first.conditions) == (second.device, second.conditions):
        return _repeats(first, second, labels)
    where, sides, known = _moving(found, first, second), [], []
    for label, one, other in ((labels[0], first.vit, second.vit), (labels[1], first.cnn, second.cnn)):
        ratio, of = taken(found.runs[other], found.runs[one])
        each = " per image" if of == "an image" else ""
        sides.append(f"{label} {as_long(ratio, each)}" if ratio.value else f"{label} on other input")
        known.append(bool(ratio.value))
    if not any(known):
        return f"{where}, {labels[0]} against {labels[1]}: {_gap_moves(first.ratio, second.ratio)}"
    return f"{where}: {', '.join(sides)}; {_gap_moves(first.ratio, second.ratio)}"


def _moving(found: Found, first: GapMove, second: GapMove) -> str:
    """Return from where to where; of one device what differs alone, with what is common said once."""
    conditions = [move.conditions.split(", ") for move in (first, second)]
    common = [each for each in conditions[0] if each in conditions[1]]
    own = [", ".join(each for each in side if each not in common) for side in conditions]
    if first.device == second.device and all(own):
        fixed = f" ({', '.join(common)})" if common else ""
        return f"On {first.device}{fixed}, from {own[0]} to {own[1]}"
    where = [_where(found, move, (first, second)) for move in (first, second)]
    return f"Moving from {where[0]} to {where[1]}"


def _repeats(first: GapMove, second: GapMove, labels: tuple[str, str]) -> str:
    """Say what two pairs under the same conditions on one device show: how far repeats agree."""
    vit, cnn = labels
    text = f"Two repeats on {first.device}: {vit} takes {times(first.ratio)} and {times(second.ratio)} as long as {cnn}"
    if first.ratio.low is None or second.ratio.low is None:
        return f"{text}; without an interval nothing tells whether they differ"
    return f"{text}; these {'clearly differ' if _apart(first.ratio, second.ratio) else 'do not clearly differ'}"


def _gap_moves(first: Quantity, second: Quantity) -> str:
    if first.low is None or second.low is None:
        return f"the ratio of the two goes from {times(first)} to {times(second)}, without an interval"
    if first.value is None or second.value is None or not _apart(first, second):
        return f"the gap does not clearly change ({times(first)} and {times(second)})"
    if is_clear(first) is False or is_clear(second) is False:
        ends = [times(each) if is_clear(each) else f"no clear difference ({times(each)})" for each in (first, second)]
        return f"the ratio goes from {ends[0]} to {ends[1]}"
    if (first.value - 1) * (second.value - 1) < 0:
        return f"the longer one changes: the ratio goes from {times(first)} to {times(second)}"
    smaller = abs(math.log(second.value)) < abs(math.log(first.value))
    return f"the gap {'falls' if smaller else 'grows'} from {times(first)} to {times(second)}"


def _apart(a: Quantity, b: Quantity) -> bool:
    """Tell whether two ratios have intervals that do not touch."""
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return False
    return a.high < b.low or b.high < a.low


def _many_places(found: Found, moves: Sequence[GapMove], vit: str, cnn: str) -> str:
    known = sorted((m for m in moves if m.ratio.value is not None), key=lambda m: m.ratio.value or 0.0)
    least, most = known[0], known[-1]
    ends = [f"{times(m.ratio)} (on {_where(found, m, moves)})" for m in (least, most)]
    text = f"{vit} takes {' to '.join(ends)} as long as {cnn}, in {counted(len(moves), 'place', 'places')}"
    return text if _apart(least.ratio, most.ratio) else f"{text}; these two do not clearly differ"


def _times_words(found: Found, moves: Sequence[GapMove], vit: str, cnn: str) -> str:
    """Return the times of both models in the first two places."""
    said = []
    for m in moves[:2]:
        first, second = (milliseconds(1e3 * (figure.value or 0.0)) for figure in (m.vit_ms, m.cnn_ms))
        said.append(f"{_where(found, m, moves)}: {first} per batch for {vit}, {second} for {cnn}.")
    return " ".join(said)
