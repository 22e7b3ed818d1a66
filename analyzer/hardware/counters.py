"""Names of hardware counters: what to ask Nsight Compute for on a compute capability, and which names make a quantity."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from typing import Annotated

import msgspec
import yaml
from msgspec import Meta

from analyzer.schema.counters import COUNTED

_Name = Annotated[str, Meta(min_length=1, max_length=200)]

ALIASES = {
    "float32": "tfloat32", "tf32": "tfloat32", "fp16": "float16", "float16_fp16acc": "float16", "bf16": "bfloat16",
    "fp8": "float8",
}  # fmt: skip
"""Element types by the name of their tensor counter. Tensor cores take float32 as tfloat32 only."""


class Candidate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Metrics that make a quantity: the sum of ``sum`` (all must be there) or of those of ``any`` that are there.

    The sum is divided by that of ``over``, where given, and multiplied by ``times``. ``not_split``: no such figure where the
    L2 is in two halves. ``note``: what a reader must know where it was used.
    """

    sum: tuple[_Name, ...] = ()
    any: tuple[_Name, ...] = ()
    over: tuple[_Name, ...] = ()
    times: Annotated[float, Meta(gt=0)] = 1.0
    not_split: bool = False
    note: str = ""


class TensorCounter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The counter of tensor-core operations of one element type, and the passes that it takes."""

    metric: _Name
    passes: Annotated[int, Meta(ge=1, le=9)]


class MetricSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to ask a chip for, see ``ncu_metrics.yaml``: ``groups`` of one pass each, without the anchors."""

    chip: _Name
    groups: Annotated[tuple[tuple[_Name, ...], ...], Meta(min_length=1)]
    tensor: dict[str, TensorCounter]
    lacking: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    split_l2: bool = False
    tma: bool = False


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: _Name
    anchors: tuple[_Name, ...]
    launch: tuple[_Name, ...]
    capabilities: dict[Annotated[str, Meta(pattern=r"^\d{1,3}\.\d{1,3}$")], MetricSet]
    quantities: dict[str, tuple[Candidate, ...]]

    def __post_init__(self) -> None:
        named = {*self.quantities, *(q for found in self.capabilities.values() for q in found.lacking)}
        if set(self.quantities) != set(COUNTED.names) or not named <= set(COUNTED.names):
            raise ValueError(f"quantities are those of COUNTED, not {sorted(named ^ set(COUNTED.names))}")
        if any(bool(c.sum) == bool(c.any) for candidates in self.quantities.values() for c in candidates):
            raise ValueError("a candidate has either sum or any")


@lru_cache(maxsize=1)
def _document() -> _Document:
    text = (resources.files("analyzer.hardware") / "ncu_metrics.yaml").read_text(encoding="utf-8")
    data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return msgspec.convert(data, _Document, strict=True)


def source() -> str:
    """Return where the names come from."""
    return _document().source


def anchors() -> tuple[str, ...]:
    """Return the metrics that every group repeats: duration and multiprocessor clock."""
    return _document().anchors


def launch_metrics() -> tuple[str, ...]:
    """Return the metrics of a launch that need no pass: its grid, registers, limits of occupancy, passes really taken."""
    return _document().launch


def listed(capability: str) -> str | None:
    """Return the compute capability whose lists are used for ``capability``: itself, or the nearest lower one of its major.

    None without any of its major. Where the answer is another one, the lists were not checked for this chip.
    """
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", capability or "")
    if match is None:
        return None
    major, minor = int(match[1]), int(match[2])
    same = [int(key.partition(".")[2]) for key in _document().capabilities if int(key.partition(".")[0]) == major]
    lower = [found for found in same if found <= minor]
    return f"{major}.{max(lower)}" if lower else None


def metric_set(capability: str) -> MetricSet | None:
    """Return the lists for ``capability`` (see ``listed``), None where there are none."""
    found = listed(capability)
    return _document().capabilities[found] if found else None


def groups(capability: str, dtype: str = "") -> tuple[tuple[str, ...], ...]:
    """Return groups of metrics that are each read in one pass, each with the anchors first; none for an unknown capability.

    A last group counts the tensor-core operations of ``dtype`` (``float16``, ``bfloat16``, ``float32``, ``float8``), where
    the chip has them. That one may take several passes, see ``passes``: a number of operations does not depend on caches.
    """
    found = metric_set(capability)
    if found is None:
        return ()
    counter = found.tensor.get(ALIASES.get(dtype, dtype))
    last = ((counter.metric,),) if counter else ()
    return tuple((*anchors(), *group) for group in (*found.groups, *last))


def passes(capability: str, group: tuple[str, ...]) -> int:
    """Return the passes that a group of ``groups`` takes: 1, or those of its tensor-core counter."""
    found = metric_set(capability)
    taken = {counter.metric: counter.passes for counter in found.tensor.values()} if found else {}
    return max((taken.get(name, 1) for name in group), default=1)


def names_of(quantity: str) -> tuple[Candidate, ...]:
    """Return the metrics that make a quantity of COUNTED, in order of preference."""
    return _document().quantities[quantity]


def all_names() -> frozenset[str]:
    """Return every metric name that makes some quantity."""
    found = (c for candidates in _document().quantities.values() for c in candidates)
    return frozenset(name for c in found for name in (*c.sum, *c.any, *c.over))


def lacking(capability: str, dtype: str = "") -> dict[str, str]:
    """Return the quantities of COUNTED that a capability does not give, each with the reason.

    ``dtype``: the element type whose tensor-core operations are wanted, where one is.
    """
    found = metric_set(capability)
    if found is None:
        why = f"no list of counters for compute capability {capability}" if capability else "compute capability not known"
        return dict.fromkeys(COUNTED.names, why)
    out = dict(found.lacking)
    counter = ALIASES.get(dtype, dtype)
    if dtype and counter not in found.tensor:
        out["flop_tensor_counter"] = f"the tensor cores of this GPU have no counter for {counter}"
    return out
