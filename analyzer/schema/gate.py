"""The gate: new runs against a baseline, what was decided of each model and operator class, and what it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analyzer.schema.evidence import Quantity

GateState = Literal["regression", "improved", "no change", "cannot tell", "added", "removed"]
"""``cannot tell``: the noise is wider than what counts. ``added`` and ``removed``: the class is on one side alone."""

Facts = tuple[tuple[str, str], ...]
"""Names of facts with their values as text; what a run does not tell is left out."""


@dataclass(frozen=True, slots=True)
class GateGroup:
    """The calls of one operator in one module: time per batch, and in each traced step (empty where no steps are named)."""

    kind: str
    op: str
    shapes: str
    dtype: str
    module: str
    time_us: float
    step_us: tuple[float, ...] = ()
    kernels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GateRun:
    """What the gate needs of one run.

    ``model`` is empty for a bare trace. ``conditions`` must be the same for two runs to be of one model; ``surroundings`` may
    differ, and that is said. ``samples``: untraced latency in ms, one tuple per process, empty for a bare trace. ``per_batch``:
    times are per batch, not of a whole trace. ``serial``: kernels are part of the latency, as on a CPU; on a GPU they may hide
    behind the host.
    """

    name: str
    label: str
    model: str
    conditions: Facts
    surroundings: Facts
    samples: tuple[tuple[float, ...], ...]
    groups: tuple[GateGroup, ...]
    per_batch: bool = True
    serial: bool = False


@dataclass(frozen=True, slots=True)
class GateOperator:
    """An operator that accounts for a change: its times in µs per batch, where it ran, and its kernels on either side.

    ``modules`` are those with the largest part of the change, ``module_count`` is how many there are.
    """

    op: str
    shapes: str
    modules: tuple[str, ...]
    module_count: int
    old_us: float
    new_us: float
    kernels: tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class GateRow:
    """What was decided of a whole model (``by`` ``model``) or of one operator class of it (``by`` ``kind``).

    Times in µs per batch. ``ratio`` is new by old, with its interval. ``share_pct``: the larger of its shares of the kernel
    time on either side. ``margin_pct``: the smallest change that counts here. ``note`` says why nothing can
    be told.
    """

    by: Literal["model", "kind"]
    name: str
    old_us: float
    new_us: float
    ratio: Quantity
    share_pct: float
    margin_pct: float
    state: GateState
    note: str = ""
    responsible: tuple[GateOperator, ...] = ()


@dataclass(frozen=True, slots=True)
class GateModel:
    """One model on both sides.

    ``conditions`` say under which settings. ``basis`` is what the row of the whole model is about. ``runs`` and ``processes``
    count those of the baseline and the new ones. ``unjudged`` are classes too small to matter, ``differences`` facts that are
    not the same on both sides, ``warnings`` why its figures may mislead.
    """

    label: str
    conditions: str
    basis: str
    runs: tuple[int, int]
    processes: tuple[int, int]
    rows: tuple[GateRow, ...]
    unjudged: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gate:
    """Everything that the gate says.

    ``missing``: models of the baseline without a new run; ``extra``: new ones without a baseline. ``not_told``: what could not
    be told or is missing, for ``strict=true``. ``tests`` is how many ratios share the 5 % of false alarms.
    """

    headline: str
    reason: str
    models: tuple[GateModel, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    not_told: tuple[str, ...]
    tests: int
    min_effect_pct: float

    def rows(self, state: GateState) -> list[tuple[GateModel, GateRow]]:
        """Return the rows in ``state``, in order."""
        return [(model, row) for model in self.models for row in model.rows if row.state == state]

    @property
    def failed(self) -> bool:
        """Tell whether anything became slower."""
        return bool(self.rows("regression"))
