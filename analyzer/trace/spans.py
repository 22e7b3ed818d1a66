"""Nested spans of one or more threads: who encloses whom, and which span encloses a moment."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]

_STEPS = 64
"""Ancestors that are looked at one by one; real traces nest less deeply, and a made-up one could be climbed for minutes."""


class Spans:
    """Spans ``[start, end]`` that nest within their thread, indexed as they were given.

    Times are integer nanoseconds. A span that sticks out of its parent by rounding still counts as inside it. ``parent`` is the
    innermost enclosing span, -1 without; ``order`` lists the spans so that a parent comes before its children.
    """

    def __init__(self, start: Int64, end: Int64, thread: Int64) -> None:
        self.start, self.end, self.thread = start, end, thread
        self.order = np.lexsort((-end, start, thread))
        self.parent = self._find_parents()

    def _find_parents(self) -> Int64:
        # lists: a loop over them takes a fifth of one over arrays
        starts, ends, threads = self.start.tolist(), self.end.tolist(), self.thread.tolist()
        parent = [-1] * len(starts)
        stack: list[int] = []
        current = None
        for i in self.order.tolist():
            start, end = starts[i], ends[i]
            if threads[i] != current:
                current = threads[i]
                stack.clear()
            while stack and ends[stack[-1]] <= start:
                # a span of no length at the end of another one is still inside it
                if ends[stack[-1]] == start == end:
                    break
                stack.pop()
            if stack:
                parent[i] = stack[-1]
            stack.append(i)
        return np.array(parent, np.int64)

    def innermost(self, time: Int64, thread: Int64) -> Int64:
        """Return for each moment the innermost span of its thread that holds it, -1 where none does."""
        count = len(self.order)
        if not count:
            return np.full(len(time), -1, dtype=np.int64)
        # both are sorted together, and stably: of equal times the spans come first, the outer before the inner
        times, threads = np.concatenate([self.start[self.order], time]), np.concatenate([self.thread[self.order], thread])
        ranked = np.lexsort((times, threads))
        before = np.maximum.accumulate(np.where(ranked < count, ranked, -1))
        last = np.empty(len(ranked), dtype=np.int64)
        last[ranked] = before
        span = np.append(self.order, -1)[last[count:]]  # of -1, no span before, it is the last entry, again -1
        span[(span >= 0) & (self.thread[span] != thread)] = -1
        for _ in range(_STEPS):
            outside = (span >= 0) & (self.end[span] < time)
            if not outside.any():
                return span
            span = np.where(outside, self.parent[span], span)
        return self._climb(span, time)

    def _climb(self, span: Int64, time: Int64) -> Int64:
        """Return the nearest of each span and its ancestors that ends no sooner than ``time``, -1 without; few steps."""
        # the last entry stands for -1, the ancestor of the outermost: nothing ends later
        up, latest = [np.append(self.parent, -1)], [np.append(self.end, np.iinfo(np.int64).max)]
        while (up[-1] >= 0).any():
            latest.append(np.maximum(latest[-1], latest[-1][up[-1]]))
            up.append(up[-1][up[-1]])
        for parent, end in zip(reversed(up), reversed(latest), strict=True):
            span = np.where(end[span] < time, parent[span], span)
        return span

    def has_children(self) -> npt.NDArray[np.bool_]:
        """Tell which spans enclose another one."""
        out = np.zeros(len(self.start), dtype=bool)
        out[self.parent[self.parent >= 0]] = True
        return out

    def enclose(self, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Tell which spans enclose a ``chosen`` one, at whatever depth."""
        out = np.zeros(len(self.start), dtype=bool)
        level = np.flatnonzero(chosen)
        while len(level):  # one generation after the other; what is known to enclose one has told its own parents already
            level = self.parent[level]
            level = np.unique(level[level >= 0])
            level = level[~out[level]]
            out[level] = True
        return out

    def segments(self) -> tuple[Int64, Int64, Int64]:
        """Return (start, end, span) of the stretches in which a span is the innermost of its thread."""
        starts: list[int] = []
        ends: list[int] = []
        owners: list[int] = []

        def add(start: int, end: int, owner: int) -> None:
            if end > start:
                starts.append(start)
                ends.append(end)
                owners.append(owner)

        stack: list[int] = []
        cursor = 0
        for index in [*map(int, self.order), -1]:
            begin = int(self.start[index]) if index >= 0 else None
            while stack and (index < 0 or self.parent[index] != stack[-1]):
                top = stack.pop()
                add(cursor, int(self.end[top]), top)
                cursor = max(cursor, int(self.end[top]))
            if index < 0 or begin is None:
                break
            if stack:
                add(cursor, begin, stack[-1])
                cursor = max(cursor, begin)
            else:
                cursor = begin
            stack.append(index)
        return np.array(starts, np.int64), np.array(ends, np.int64), np.array(owners, np.int64)
