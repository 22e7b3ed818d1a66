"""Predicted against measured: single figures, errors by kernel class, and parameters fitted on one half of the kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass

QUANTITIES = {
    "l2_sm_bytes": ("bytes from L2 to the multiprocessors", "bytes"),
    "sm_l2_bytes": ("bytes written to L2", "bytes"),
    "l2_lookup_bytes": ("bytes looked up in L2, traffic between its halves included", "bytes"),
    "l2_miss_bytes": ("bytes missed in L2, traffic between its halves included", "bytes"),
    "dram_read_bytes": ("bytes read from DRAM", "bytes"),
    "dram_write_bytes": ("bytes written to DRAM", "bytes"),
    "dram_bytes": ("bytes through DRAM", "bytes"),
    "occupancy_theoretical_pct": ("occupancy that registers, shared memory and block size allow", "%"),
    "occupancy_pct": ("achieved occupancy against what the launch allows", "%"),
    "flop": ("FLOP of the tensor cores", "FLOP"),
}
"""What can be predicted and counted: key, name, unit."""

FIT, SCORE, WHOLE = "fit", "score", "all"
"""Halves of the kernels, and both of them."""
SHIPPED, REFITTED = "shipped", "refitted"
"""Parameters as they are delivered, and as they were fitted on the half FIT."""
LEAST_JUDGED = 3
"""Kernels of a class with which its target is called met or missed."""
HELD_OUT, FITTED = "held out", "fitted"
"""Whether a shipped parameter was fitted on a figure."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One quantity of one distinct kernel, per launch: counted, and as the models have it.

    ``family`` is the kernel class; ``key`` tells distinct kernels apart; ``mode`` as in ``CounterView``. ``point`` with ``low``
    and ``high`` are the shipped model's. ``half``: FIT or SCORE; ``status``: HELD_OUT or FITTED. ``refitted``: the point with
    parameters fitted on the other half, NaN for what belongs to FIT. ``scored``: False where the model makes no claim
    (``banded``: whether its band does all the same), ``why`` says so. ``share_pct`` of the kernel time of its run, NaN without
    times.
    """

    run: str
    gpu: str
    family: str
    key: str
    kernel: str
    op: str
    shapes: str
    mode: str
    quantity: str
    measured: float
    point: float
    low: float
    high: float
    calls: float = 1.0
    share_pct: float = math.nan
    half: str = SCORE
    status: str = HELD_OUT
    refitted: float = math.nan
    scored: bool = True
    banded: bool = True
    why: str = ""

    @property
    def error_pct(self) -> float:
        """Error of the point in % of the measured figure."""
        return 100 * (self.point / self.measured - 1) if self.measured else math.nan

    @property
    def refitted_error_pct(self) -> float:
        """Error of the refitted point in % of the measured figure."""
        return 100 * (self.refitted / self.measured - 1) if self.measured else math.nan

    @property
    def inside(self) -> bool:
        """Tell whether the band holds the measured figure; one of a single value has to meet it within 1 %."""
        return 0.99 * self.low <= self.measured <= 1.01 * self.high


@dataclass(frozen=True, slots=True)
class Score:
    """Errors of one quantity of one kernel class, in %, over distinct kernels of one mode and half (FIT, SCORE, WHOLE).

    ``parameters``: SHIPPED or REFITTED. ``bias_pct`` is the median of the signed errors. ``inside_pct`` is how many bands held
    the measured figure. ``target``: (median, 90th percentile) that the access model aims at, None without one, NaN for an end
    that it leaves open; ``inside_target``: the share of bands that it wants to hold. ``bands`` of the kernels have a prediction
    that is a band, and ``inside_pct`` is a share of those, NaN without any. ``fitted`` of the ``n`` kernels were used to fit a
    shipped parameter.
    """

    family: str
    quantity: str
    mode: str
    parameters: str
    half: str
    n: int
    median_pct: float
    p90_pct: float
    worst_pct: float
    bias_pct: float
    inside_pct: float
    target: tuple[float, float] | None = None
    inside_target: float | None = None
    fitted: int = 0
    bands: int = 0

    @property
    def has_target(self) -> bool:
        """Tell whether the access model aims at something here."""
        return self.target is not None or self.inside_target is not None

    @property
    def in_sample(self) -> bool:
        """Tell whether every kernel of the row helped to fit the parameters that it is about."""
        return self.parameters == SHIPPED and self.fitted == self.n

    @property
    def few(self) -> bool:
        """Tell whether the kernels are too few to judge by."""
        return max(self.n, self.bands) < LEAST_JUDGED

    @property
    def met(self) -> bool | None:
        """Tell whether every part of the target is met, None without one or where nothing is held out that could tell."""
        if not self.has_target or self.in_sample or self.few:
            return None
        typical, most = self.target or (math.nan, math.nan)
        missed = self.median_pct > typical or self.p90_pct > most  # a part that is NaN misses nothing
        return not missed and not self.inside_pct < (self.inside_target or 0.0)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the model for one GPU: as shipped, and as fitted on the half FIT (NaN where nothing there tells it)."""

    gpu: str
    name: str
    unit: str
    shipped: float
    refitted: float
    n: int


@dataclass(frozen=True, slots=True)
class Validation:
    """All figures, their errors by class, the parameters, and (class, quantity, why, kernels) of what could not be compared."""

    predictions: tuple[Prediction, ...]
    scores: tuple[Score, ...]
    parameters: tuple[Parameter, ...]
    left_out: tuple[tuple[str, str, str, int], ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    command: tuple[str, ...] = ()
