"""Ranks of a distributed job: one per file, or several in a file that a tool has merged."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd

from analyzer.errors import TraceError
from analyzer.trace.kineto import Trace
from analyzer.trace.spans import Int64

_LABEL = re.compile(r"\W*(?:global[ _-]?)?(?:rank|tp)\W{0,3}(\d{1,6})\b(?!-)", re.IGNORECASE)


class OtherRankError(TraceError):
    """The trace is of another rank than the one that was asked for."""


def rank_of_threads(trace: Trace) -> Int64:
    """Return the rank of each thread of a merged file, -1 where its process has no label like ``rank 3`` or ``[TP03] 4711``."""
    return np.array([rank_of(process) for process in trace.processes], np.int64)


def rank_of(process: int | str) -> int:
    """Return the rank that the label of a process (its pid in the trace) names, -1 for none."""
    found = _LABEL.match(process) if isinstance(process, str) else None
    return int(found.group(1)) if found else -1


def ranks_in(trace: Trace) -> list[int]:
    """Return the ranks that a merged file labels, in order."""
    return sorted({int(rank) for rank in rank_of_threads(trace) if rank >= 0})


def select_rank(trace: Trace, rank: int | None) -> Trace:
    """Return the part of ``trace`` that belongs to ``rank``; all of it for None.

    Raises:
        OtherRankError: the trace is of other ranks.
        TraceError: it does not tell its rank.
    """
    if rank is None:
        return trace
    merged = ranks_in(trace)
    if merged and rank in merged:
        return _only(trace, rank)
    if not merged and trace.rank == rank:
        return trace
    if not merged and trace.rank is None:
        raise TraceError(
            f"{trace.path} does not tell its rank", "leave rank= away; torch writes it when torch.distributed is in use"
        )
    have = ", ".join(map(str, merged[:8])) if merged else str(trace.rank)
    raise OtherRankError(f"{trace.path} is of rank {have}, not {rank}", "choose one of these, or leave rank= away for all")


def _only(trace: Trace, rank: int) -> Trace:
    ranks = rank_of_threads(trace)

    def keep(table: pd.DataFrame) -> pd.DataFrame:
        mine: pd.DataFrame = table.loc[ranks[table["thread"].to_numpy()] == rank]
        return mine.reset_index(drop=True)

    return replace(
        trace,
        device_events=keep(trace.device_events), ops=keep(trace.ops), calls=keep(trace.calls),
        annotations=keep(trace.annotations), frames=keep(trace.frames), stack_frames=keep(trace.stack_frames),
        counter_ranges=keep(trace.counter_ranges), memory_events=keep(trace.memory_events), rank=rank,
        processes=tuple(process if r == rank else 0 for process, r in zip(trace.processes, ranks.tolist(), strict=True)),
    )  # fmt: skip
