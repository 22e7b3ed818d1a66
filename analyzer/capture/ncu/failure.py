"""Why a group of counters gave nothing, in words: from what ncu printed and how it ended."""

from __future__ import annotations

import re
from collections.abc import Sequence

from analyzer.capture import permission
from analyzer.capture.ncu import supervise
from analyzer.capture.permission import Obstacle, Scope
from analyzer.capture.privacy import masked_text
from analyzer.hardware import counters

ROOM = "make room, or write runs elsewhere: traces=DIR"
FOLLOWS = "The application returned an error code"
"""What ncu says after the cause."""

_TOLD_LINES = 20
_TOLD_LETTERS = 160
_UNKNOWN = re.compile(r"Failed to find metric\s+(?:regex:\^?)?(\w+)")
"""How ncu ends on a name that it does not know, in public logs of ncu 2025. Older ones left such names out without a word."""


class FailedError(Exception):
    """A group gave nothing.

    ``others``: whether another group may. ``unknown``: the names, without what follows their point, that ncu does not know.
    ``of_model``: it lies with the model, so that another one may do better. ``said``: the end of its log, to be appended.
    """

    def __init__(
        self,
        reason: str,
        hint: str = "",
        *,
        others: bool = False,
        unknown: frozenset[str] = frozenset(),
        of_model: bool = False,
    ) -> None:
        self.obstacle, self.others, self.unknown, self.of_model = Obstacle(reason, hint), others, unknown, of_model
        self.said = ""
        super().__init__(reason)


def explained(text: str, ended: supervise.Ended) -> FailedError:
    """Return the failure that ncu's own words tell, else the last error that it named, else its exit status."""
    named = errors(text)
    unknown = frozenset(_UNKNOWN.findall("\n".join(named)))
    if (found := permission.explain(text)) is not None:
        reason = f"{found.reason}{_quoted(named, found)}"
        alone, of_model = found.scope is Scope.GROUP, found.scope is Scope.MODEL
        return FailedError(reason, found.hint, others=alone, unknown=unknown, of_model=of_model)
    if named:
        return FailedError(f"Nsight Compute: {masked_text(named[-1])}", others=True)
    if ended.status is None:
        return FailedError("Nsight Compute was ended before it could tell how", others=True)
    how = f"signal {-ended.status}" if ended.status < 0 else f"status {ended.status}"
    return FailedError(f"Nsight Compute ended with {how} and no report", others=True)


def _quoted(named: list[str], found: Obstacle) -> str:
    """Return the line of ncu that ``found`` explains, in brackets; empty where its reason has the same first word."""
    own = [line for line in named if FOLLOWS not in line]
    line = next((line for line in own if permission.explain(line) == found), own[-1] if own else "")
    return f" ({masked_text(line)})" if line and line.partition(" ")[0] not in found.reason else ""


def refused(asked: Sequence[str], unknown: frozenset[str]) -> set[str]:
    """Return the names of ``asked`` to leave out after ncu named ``unknown``.

    Where it refuses one that describes a launch it gets none of those: its page has them unasked, and one try each is too long.
    """
    found = {name for name in asked if name.partition(".")[0] in unknown}
    launch = set(counters.launch_metrics())
    return found | (launch & set(asked)) if found & launch else found


def end_of(text: str) -> str:
    """Return the last lines of a log as part of a sentence, masked and cut; empty without any."""
    lines = [line.strip()[:_TOLD_LETTERS] for line in text.splitlines()]
    told = list(dict.fromkeys(line for line in lines if line and not line.startswith("==PROF==")))[-_TOLD_LINES:]
    return f"; it said: {masked_text(' | '.join(told))}" if told else ""


def errors(text: str) -> list[str]:
    """Return what ncu called errors, in order."""
    marked = (line.partition("==ERROR==")[2].strip()[:300] for line in text.splitlines() if line.startswith("==ERROR=="))
    return [line for line in marked if line]
