"""The limits that a run is held against: which of its measured ceilings and datasheet figures apply to which launch."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from analyzer.hardware.spec import DeviceLimits, Roof, device_limits
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.results import LimitFact
from analyzer.schema.run import DeviceFacts, Run


def limits_of(run: Run, device: DeviceFacts) -> Callable[..., DeviceLimits]:
    """Return the limits by element type and kind; on CUDA float32 may run as TF32, separately for products and convolutions."""
    ceilings = run.facts.ceilings if run.facts else ()
    settings = run.facts.settings if run.facts else None
    tf32_products = settings is not None and settings.matmul_precision in ("high", "medium")
    tf32_convolutions = settings is not None and bool(settings.convolution_tf32)

    @lru_cache(maxsize=64)
    def of(dtype: str, kind: str = "") -> DeviceLimits:
        if dtype == "float32" and device.type == "cuda":
            if kind == "convolution" and tf32_convolutions:
                return device_limits(device, "tfloat32", ceilings)
            if tf32_products:
                return device_limits(device, dtype, ceilings, spec_dtype="tfloat32")
        return device_limits(device, dtype, ceilings)

    return of


def limit_facts(of: Callable[..., DeviceLimits], dtype: str) -> tuple[LimitFact, ...]:
    """Return the limits for ``dtype`` as the page shows them; one that is not known says why."""
    limits, convolution = of(dtype), of(dtype, "convolution")
    facts = []
    other = convolution.matrix != limits.matrix
    for name, roof, unit in (
        *((("matrix peak used for convolutions (TF32)", convolution.matrix, "TFLOP/s"),) if other else ()),
        ("bandwidth used for floors", limits.bandwidth, "GB/s"),
        ("matrix peak used for floors", limits.matrix, "TFLOP/s"),
        ("DRAM bandwidth, datasheet", limits.dram_spec, "GB/s"),
        ("matrix peak, datasheet", limits.matrix_spec, "TFLOP/s"),
        ("vector peak, datasheet", limits.vector, "TFLOP/s"),
    ):
        facts.append(LimitFact(name, _roof_quantity(roof, unit, limits.reason)))
    return tuple(facts)


def _roof_quantity(roof: Roof | None, unit: str, reason: str) -> Quantity:
    if roof is None:
        return Quantity.missing(unit, reason or "no datasheet figure for this device")
    evidence = Evidence.MEASURED if roof.measured else Evidence.SPEC
    return Quantity(roof.value, roof.unit, evidence, source=roof.source)
