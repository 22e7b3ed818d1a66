"""Hardware counters in files: what ``ncu --csv --page raw`` writes, the ranges of old traces, and their match to launches."""

from __future__ import annotations

from analyzer.trace.counters.file import CounterFile, counter_file, read_counter_file
from analyzer.trace.counters.join import Joined, join

__all__ = ["CounterFile", "Joined", "counter_file", "join", "read_counter_file"]
