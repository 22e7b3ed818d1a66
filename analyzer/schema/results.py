"""What an analysis holds: the only thing that insight and report see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analyzer.schema.access import AccessResult
from analyzer.schema.compiled import Attribution
from analyzer.schema.counters import CounterView
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.findings import Finding
from analyzer.schema.fusion import Fusion
from analyzer.schema.ledger import UNEXPLAINED, UNNAMED, Ledger
from analyzer.schema.profile import HostView, MemoryProfile
from analyzer.schema.run import DeviceFacts, Run

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Idle:
    """The idle time of a GPU in parts that add up to it, in microseconds.

    It waits for the host (``host_us``), for the host while that waits for a data loader (``loader_us``) or inside a
    synchronising call (``sync_us``), for a launch on its way
    (``launch_us``), or for something whose launch is not in the trace (``unknown_us``).
    """

    host_us: float
    loader_us: float
    sync_us: float
    launch_us: float
    unknown_us: float


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the window, in microseconds unless named otherwise.

    ``wall_us`` is the window; ``kernel_time_us`` the plain sum of kernel durations; ``busy_us`` the time with at least one
    kernel, copy or fill; ``idle_us`` the complement of ``busy_us``, computed from the gaps and not as a remainder; ``idle``
    its parts, None on a CPU run. ``bytes_high`` is the most that ``bytes_compulsory`` may be. ``copy_only_us`` is the time in
    which copies or fills run and no kernel does.
    """

    wall_us: float
    kernel_time_us: float
    kernel_count: int
    copy_us: float
    busy_us: float
    idle_us: float
    dispatch_us: float
    classified_pct: float
    modelled_pct: float
    linked_pct: float
    flop: float
    bytes_compulsory: float
    occupancy_pct: Quantity
    occupancy_kineto_pct: Quantity
    copy_only_us: float = 0.0
    idle: Idle | None = None
    bytes_high: float = 0.0

    @property
    def idle_pct(self) -> float:
        """Return the idle share of the window; tracing slows the host, so on a GPU it overstates the idle time."""
        return 100 * self.idle_us / self.wall_us if self.wall_us else 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """The stretch of the trace that the figures cover; ``source`` says how it was chosen.

    ``steps`` counts the profiler's steps in it, None where it names none. ``batches`` is what times may be divided by: the
    steps where all work lies in them, else None. ``stretches`` are the disjoint (start_ns, end_ns) that make up the window,
    where it is not all of what lies between start and end.
    """

    start_ns: int
    end_ns: int
    source: str
    steps: int | None
    batches: int | None = None
    stretches: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class LimitFact:
    """One ceiling as the page shows it: ``name`` (copy bandwidth, matrix peak ...) and its figure.

    ``line`` is its name in the roofline, empty where that has no line for it.
    """

    name: str
    figure: Quantity
    line: str = ""


@dataclass(frozen=True, slots=True)
class Impossible:
    """A figure that exceeds what the device can do, so that it stands on an error card and nowhere else.

    ``what`` is wrong with ``kernel``, launched by ``subject`` (its operator and shapes). ``explanation`` is set where it has a
    sound reason; then it is a note and the figure stays.
    """

    what: str
    kernel: str
    subject: str
    explanation: str
    share_pct: float


@dataclass(frozen=True, slots=True, eq=False)
class Rooflines:
    """Rates, shares of the peaks and bounds by operator, by module and of the whole model (one row).

    ``unmodelled``: the time without a work model, columns ``op, kind, why, calls, time_us, share_pct``, longest first.
    """

    operators: pd.DataFrame
    modules: pd.DataFrame
    model: pd.DataFrame
    unmodelled: pd.DataFrame


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """One run, analysed.

    ``launches``: a row per launch. ``kernels``: the rows of kernels.csv. ``kinds``: a row per kind. ``terms``: what the time of
    each kind is due to (``metrics.ledger.TERM_COLUMNS``), without ``missing_terms``, which cannot be told. ``segments``: the
    stretches (start_ns, end_ns, row of ``launches``) in which launches really run: on a CPU an operator pauses for those
    inside it. ``steps``: (name, start_ns, end_ns) of the profiler's steps, or of what was selected; then ``foreign`` holds
    (start_ns, end_ns) of what ran outside. ``memory``: one profile per device that the trace has memory events of.
    ``trace_versions``: of CUDA or HIP, as the header of the trace names them. ``counters``: where hardware counters came from,
    None where there are none. ``attribution``: how much of the time belongs to operators and modules.
    """

    run: Run
    device: DeviceFacts
    label: str
    dtype: str
    window: Window
    totals: Totals
    kinds: pd.DataFrame
    terms: pd.DataFrame
    kernels: pd.DataFrame
    launches: pd.DataFrame
    limits: tuple[LimitFact, ...]
    rooflines: Rooflines
    latency: Any
    timings: pd.DataFrame
    samples: pd.DataFrame
    warnings: tuple[str, ...] = ()
    segments: tuple[Any, Any, Any] = ((), (), ())
    steps: tuple[tuple[str, int, int], ...] = ()
    base_unix_ns: int = 0
    foreign: tuple[Any, Any] = ((), ())
    impossible: tuple[Impossible, ...] = ()
    access: AccessResult | None = None
    counters: CounterView | None = None
    host: HostView | None = None
    memory: tuple[MemoryProfile, ...] = ()
    missing_terms: tuple[str, ...] = ()
    trace_versions: dict[str, str] = field(default_factory=dict)
    attribution: Attribution | None = None


GAP_COLUMNS = (
    "role", "kind", "term", "first_us", "second_us", "delta_us", "low_us", "high_us", "evidence", "explained", "named",
)  # fmt: skip
"""Columns of a gap's table, and of ``gap.parts`` in summary.json."""


@dataclass(frozen=True, slots=True)
class GapPart:
    """One part of the gap, in microseconds per batch: what ``term`` of ``schema.ledger.TERMS`` costs a kind in both runs.

    ``low_us`` and ``high_us`` are the ends of the difference where a part is a band or has an interval; parts share their
    bands (what one gains another lacks), so the ends do not add up.
    """

    role: str
    kind: str
    term: str
    first_us: float
    second_us: float
    low_us: float
    high_us: float
    evidence: Evidence

    @property
    def delta_us(self) -> float:
        """Return first minus second."""
        return self.first_us - self.second_us

    @property
    def explained(self) -> bool:
        """Tell whether the part is no unexplained one: its kernels have a work model, and tracing did not add it."""
        return self.term not in UNEXPLAINED

    @property
    def named(self) -> bool:
        """Tell whether the part has a cause."""
        return self.explained and self.term not in UNNAMED


@dataclass(frozen=True, slots=True)
class RoleEffect:
    """What work, traffic and rate of one functional role contribute to the gap, in microseconds per batch (LMDI).

    The four parts add up to ``first_us`` - ``second_us``.
    """

    role: str
    first_us: float
    second_us: float
    work_us: float
    traffic_us: float
    rate_us: float
    other_us: float


@dataclass(frozen=True, slots=True)
class Gap:
    """The difference between two runs, in parts that add up to it. Times in microseconds per batch.

    ``roles`` divides the same difference by another question. ``interval_us`` is its 95 % interval, None without one.
    """

    one: Ledger
    two: Ledger
    parts: tuple[GapPart, ...]
    roles: tuple[RoleEffect, ...] = ()
    interval_us: tuple[float, float] | None = None

    @property
    def first(self) -> str:
        """Return the label of the first run."""
        return self.one.label

    @property
    def second(self) -> str:
        """Return the label of the second run."""
        return self.two.label

    @property
    def first_us(self) -> float:
        """Return the time of the first run."""
        return self.one.total_us

    @property
    def second_us(self) -> float:
        """Return the time of the second run."""
        return self.two.total_us

    @property
    def basis(self) -> str:
        """Return what the times are: untraced or traced, of a batch or of whole traces."""
        return self.one.basis

    @property
    def total_us(self) -> float:
        """Return the gap: first minus second."""
        return self.first_us - self.second_us

    @property
    def is_clear(self) -> bool:
        """Tell whether there is a gap: its interval, where it has one, leaves 0 out."""
        return self.total_us != 0 and not (self.interval_us and self.interval_us[0] <= 0 <= self.interval_us[1])

    @property
    def unexplained_us(self) -> float:
        """Return the sum of the parts that have no explanation."""
        return sum(part.delta_us for part in self.parts if not part.explained)

    @property
    def unnamed_us(self) -> float:
        """Return the sum of the parts above a floor whose cause nobody has named."""
        return sum(part.delta_us for part in self.parts if part.explained and not part.named)

    @property
    def open_us(self) -> float:
        """Return the size of all parts without a cause, each counted without its sign so that they cannot cancel.

        Time above the floor is taken together by role first: there the same work of both models stands against each other.
        """
        sizes: dict[tuple[str, str], float] = {}
        for part in self.parts:
            if not part.named:
                key = (part.role, "") if part.explained else (part.kind, part.term)
                sizes[key] = sizes.get(key, 0.0) + part.delta_us
        return sum(map(abs, sizes.values()))

    def table(self) -> pd.DataFrame:
        """Return the parts as a DataFrame, a row each: GAP_COLUMNS."""
        import pandas as pd

        rows = [[getattr(part, name) for name in GAP_COLUMNS] for part in self.parts]
        return pd.DataFrame(rows, columns=list(GAP_COLUMNS)).astype({"evidence": str})


@dataclass(frozen=True, slots=True)
class Caveat:
    """Something that is off. ``level`` is ``note`` or ``warning``; ``target`` the id of the section that shows it."""

    level: str
    text: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class Reason:
    """One of the main reasons, with the section that shows its numbers."""

    text: str
    target: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The sentences on top of the page and at the end of the terminal output, all computed."""

    headline: str
    reason: str
    not_measured: tuple[str, ...]
    reasons: tuple[Reason, ...] = ()
    caveats: tuple[Caveat, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """Everything that one report shows: one to a few analyses, and the gap where exactly two were compared.

    ``ledgers``: one per analysis, in their order. ``fusion``: what compiling changed, where the two are an eager and a compiled
    run of one model.
    """

    analyses: tuple[Analysis, ...]
    verdict: Verdict
    ratio: Quantity | None = None
    gap: Gap | None = None
    findings: tuple[Finding, ...] = ()
    ledgers: tuple[Ledger, ...] = ()
    fusion: Fusion | None = None


def run_names(analyses: tuple[Analysis, ...]) -> tuple[str, ...]:
    """Return one name per run, as files and findings have it; the same trace given twice gets a number behind its name."""
    seen: dict[str, int] = {}
    out = []
    for a in analyses:
        seen[a.run.name] = seen.get(a.run.name, 0) + 1
        out.append(a.run.name if seen[a.run.name] == 1 else f"{a.run.name}-{seen[a.run.name]}")
    return tuple(out)
