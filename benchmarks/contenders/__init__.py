"""One program per contender: each reads the trace named on its command line and prints its answer as one JSON line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Contender:
    """A program of this folder: ``name`` without its suffix, ``title`` as the page has it.

    ``home`` says whose interpreter runs it, ``distribution`` what must be installed there. ``answers`` tells whether it sums
    kernels, ``report`` whether it makes a whole report rather than the table of kernels. ``remark`` explains an answer that is
    known to differ.
    """

    name: str
    title: str
    home: Literal["own", "peers", "tracelens"]
    distribution: str
    answers: bool = True
    report: bool = False
    remark: str = ""

    @property
    def path(self) -> Path:
        """The program."""
        return FOLDER / f"{self.name}.py"


HTA_REMARK = " (it takes every event with a stream for a kernel, Triton's operators too)"

CONTENDERS = (
    Contender("ours", "this analyzer", "own", "analyzer"),
    Contender("floor_msgspec", "floor: one typed msgspec decode", "own", "msgspec"),
    Contender("import_pandas", "import pandas alone", "own", "pandas", answers=False),
    Contender("gunzip", "gunzip alone, streamed", "own", "", answers=False),
    Contender("peer_hta", "HolisticTraceAnalysis", "peers", "HolisticTraceAnalysis", remark=HTA_REMARK),
    Contender("peer_tb", "torch-tb-profiler", "peers", "torch-tb-profiler"),
    Contender("peer_tracelens", "TraceLens", "tracelens", "TraceLens"),
    Contender("report_ours", "this analyzer", "own", "analyzer", report=True),
    Contender("report_hta", "HolisticTraceAnalysis", "peers", "HolisticTraceAnalysis", report=True, remark=HTA_REMARK),
    Contender("report_tb", "torch-tb-profiler", "peers", "torch-tb-profiler", report=True),
    Contender("report_tracelens", "TraceLens", "tracelens", "TraceLens", answers=False, report=True),
)
