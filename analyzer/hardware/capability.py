"""The limits of one multiprocessor by compute capability, for the occupancy calculator."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import yaml


@dataclass(frozen=True, slots=True)
class SmLimits:
    """Limits of one multiprocessor, see ``compute_capability.yaml``.

    ``registers`` are of 32 bits; ``_kib`` is KiB; None where the sources give no figure. ``tensor_flop_per_clock`` is the
    dense float16 rate with float32 accumulation, ``_geforce`` the halved one of GeForce boards.
    """

    architecture: str
    max_warps_per_sm: int
    max_threads_per_sm: int
    max_blocks_per_sm: int
    registers_per_sm: int
    registers_per_block: int
    register_unit: int
    sub_partitions: int
    shared_per_sm_kib: int
    shared_default_kib: int
    shared_optin_kib: int
    shared_unit_bytes: int
    shared_reserved_bytes: int
    source: str
    warp_size: int = 32
    max_threads_per_block: int = 1024
    max_registers_per_thread: int = 255
    register_granularity: str = "warp"
    example_gpus: tuple[str, ...] = ()
    l1_and_shared_kib: str | None = None
    shared_carveouts_kib: str | None = None
    barriers_per_sm: int | None = None
    barrier_limit: bool = False
    fp32_lanes: int | None = None
    tensor_flop_per_clock: int | None = None
    tensor_flop_per_clock_geforce: int | None = None
    bf16_tensor: bool = False
    tf32_tensor: bool = False
    fp8_tensor: bool = False
    tma_and_wgmma: str = "no"
    ncu_chip: str | None = None


@lru_cache(maxsize=1)
def all_limits() -> dict[str, SmLimits]:
    """Return the limits of every listed compute capability."""
    text = (resources.files("analyzer.hardware") / "compute_capability.yaml").read_text(encoding="utf-8")
    data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    sources = data["sources"]
    found = {}
    for key, values in data["capabilities"].items():
        examples = tuple(values.pop("example_gpus", ()))
        found[key] = SmLimits(**(values | {"source": sources[values["source"]], "example_gpus": examples}))
    return found


def sm_limits(compute_capability: str | None) -> SmLimits | None:
    """Return the limits of a compute capability; an unlisted minor version takes the nearest lower one of its major."""
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", compute_capability or "")
    if match is None:
        return None
    major, minor = match.groups()
    same = [int(key.partition(".")[2]) for key in all_limits() if key.partition(".")[0] == major]
    lower = [listed for listed in same if listed <= int(minor)]
    return all_limits()[f"{major}.{max(lower)}"] if lower else None
