"""What compiling changed: an eager and a compiled run of one model, kernel by kernel and module by module."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analyzer.schema.evidence import Evidence, Quantity

FUSION_COLUMNS = (
    "part", "operators", "modules", "kernels", "operators_per_kernel", "calls", "eager_us", "compiled_us", "delta_us",
    "matched_pct", "bytes_apart", "bytes_whole", "bytes_saved", "saved_us", "evidence",
)  # fmt: skip
"""Columns of fusion.csv. Times, bytes and calls are per batch; ``delta_us`` is eager minus compiled. ``evidence`` is that of
the weakest figure of the row."""

COMPLETE_PCT = 99.5
"""Where fewer of the operators of a group than this were found in the eager run, its bytes are held against nothing."""

PARTS = ("generated", "library", "only eager", "only compiled")
"""What the kernel time of both runs is divided into, each moment in one of them: kernels that the compiler generated, kernels
of libraries that compiled code calls, operators of the eager run without a counterpart, kernels of the compiled run without."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs, per batch: ``place`` is its number in the study.

    ``launches`` are its kernels (on a CPU: operators that do work), ``generated`` those that the compiler made; the others are
    a library's or the framework's. ``idle_us``: traced time without any; ``dispatch_us``: the part of it inside operators that
    only call others, NaN on a GPU, where ``host_us`` is the part in which it waits for the host, NaN on a CPU.
    """

    label: str
    name: str
    place: int
    launches: float
    generated: float
    kernel_us: float
    generated_us: float
    idle_us: float
    dispatch_us: float
    host_us: float
    traced_us: float

    @property
    def library(self) -> float:
        """Return the launches of kernels that no compiler made."""
        return self.launches - self.generated

    @property
    def on_gpu(self) -> bool:
        """Tell whether kernels ran on a GPU; on a CPU operators stand where kernels stand."""
        return math.isnan(self.dispatch_us)


@dataclass(frozen=True, slots=True)
class FusedGroup:
    """Kernels that do the same operators in modules of the same pattern; times and bytes per batch.

    ``part`` is one of PARTS. ``operators`` are those of one kernel, in the order of the data; ``modules`` the patterns of their
    modules, that of the main operator first; ``kernels`` some names. ``eager_us`` is what the same operators took in the eager
    run, ``matched_pct`` the share of the operators that were found there. ``bytes_apart``: what they move there, each on its
    own, 0 for what it does not have; ``bytes_whole``: what the kernel has to move; NaN where not known. An eager operator that
    several compiled kernels repeat is divided among them; ``divided`` tells that one was. ``saved_us``: the difference of the
    bytes at the bandwidth of the device.
    """

    part: str
    operators: tuple[str, ...]
    modules: tuple[str, ...]
    kernels: tuple[str, ...]
    calls: float
    eager_us: float
    compiled_us: float
    matched_pct: float
    bytes_apart: float = math.nan
    bytes_whole: float = math.nan
    saved_us: float = math.nan
    divided: bool = False

    @property
    def evidence(self) -> Evidence:
        """Return how ``eager_us`` is known: measured, or with a share of an operator that is divided by a rule."""
        return Evidence.MODELLED if self.divided else Evidence.MEASURED

    @property
    def delta_us(self) -> float:
        """Return eager minus compiled: positive where the compiled run takes less."""
        return self.eager_us - self.compiled_us

    @property
    def bytes_saved(self) -> float:
        """Return how many fewer bytes the kernel has to move than its operators; below zero: more.

        NaN where not known, and where the eager run lacks some of the operators: then the two are not the same work.
        """
        return self.bytes_apart - self.bytes_whole if self.is_complete else math.nan

    @property
    def is_complete(self) -> bool:
        """Tell whether the eager run has all operators of the group."""
        return self.matched_pct >= COMPLETE_PCT

    @property
    def is_fused(self) -> bool:
        """Tell whether several operators are in one kernel."""
        return self.part == "generated" and len(self.operators) > 1


@dataclass(frozen=True, slots=True)
class ModuleChange:
    """The kernel time of the modules of one pattern in both runs, per batch; the pattern is empty where no module is known.

    ``shared_pct``: share of ``compiled_us`` in kernels that work for other modules too, so that it was divided. ``terms`` are
    (term of ``schema.ledger.KERNEL_TERMS``, eager µs, compiled µs); empty where the limits of the device are not known.
    """

    module: str
    eager_us: float
    compiled_us: float
    shared_pct: float
    terms: tuple[tuple[str, float, float], ...] = ()

    @property
    def delta_us(self) -> float:
        """Return eager minus compiled: positive where the compiled run takes less."""
        return self.eager_us - self.compiled_us

    @property
    def evidence(self) -> Evidence:
        """Return how the times are known: measured, or with a share of a kernel that is divided by a rule."""
        return Evidence.MODELLED if self.shared_pct > 0 else Evidence.MEASURED


@dataclass(frozen=True, slots=True)
class Rest:
    """Time that belongs to no kernel, per batch: a term of ``schema.ledger.TERMS`` in both runs."""

    term: str
    eager_us: float
    compiled_us: float
    evidence: Evidence

    @property
    def delta_us(self) -> float:
        """Return eager minus compiled."""
        return self.eager_us - self.compiled_us


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the finding on chains in the eager run estimated that fusing saves, beside what fusing changed; µs per batch.

    ``chains_us`` is the time of its chains. ``delta_us``: eager minus compiled time of what generated kernels of several
    operators do, whether it stood in a chain or not.
    """

    title: str
    saving: Quantity
    chains_us: float
    delta_us: float


@dataclass(frozen=True, slots=True)
class Fusion:
    """An eager and a compiled run of one model. Times in microseconds per batch; differences are eager minus compiled.

    ``groups`` divide the kernel time of both runs, and so do ``modules``; with ``rest`` they add up to ``total_us``, the
    difference of ``basis``. ``ratio``: the untraced median of the eager run over that of the compiled one, None without.
    ``matched_eager_pct`` and ``matched_compiled_pct``: share of the kernel time of each run that has a counterpart in the
    other. ``waiting``: what the traced time without a kernel of the eager and of the compiled run was multiplied with, so that
    it fits the untraced batch. ``cautions`` say what else differs between the runs or keeps a figure from being known.
    """

    eager: Side
    compiled: Side
    basis: str
    ratio: Quantity | None
    groups: tuple[FusedGroup, ...]
    modules: tuple[ModuleChange, ...]
    rest: tuple[Rest, ...]
    total_us: float
    interval_us: tuple[float, float] | None
    matched_eager_pct: float
    matched_compiled_pct: float
    bandwidth: Quantity
    prediction: Prediction | None = None
    cautions: tuple[str, ...] = ()
    waiting: tuple[float, float] = (1.0, 1.0)

    @property
    def kernel_delta_us(self) -> float:
        """Return the difference of the kernel time: the sum over the groups, and over the modules."""
        return self.eager.kernel_us - self.compiled.kernel_us

    @property
    def fused(self) -> tuple[FusedGroup, ...]:
        """Return the groups of kernels that the compiler made, those that save most bytes or time first as listed."""
        return tuple(group for group in self.groups if group.part == "generated")
