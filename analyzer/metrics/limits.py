"""The limits that a run is held against: its measured ceilings, and the datasheet of its device beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from analyzer.hardware.lookup import look_up
from analyzer.hardware.sheet import GpuSheet
from analyzer.metrics.arithmetic import HALF_ACCUMULATE, Unit
from analyzer.schema.evidence import Evidence, Quantity
from analyzer.schema.results import LimitFact
from analyzer.schema.run import Ceiling, DeviceFacts, Run

NOT_CALIBRATED = "this run was not calibrated; record it with calibrate=auto"

ATTAINABLE = "DRAM attainable"
"""The roofline's line of what a copy was published to reach."""


@dataclass(frozen=True, slots=True)
class Roof:
    """A limit: ``unit`` is GB/s or TFLOP/s, ``measured`` tells calibration from datasheet.

    ``low`` and ``high``: the 10th and 90th percentile of what was measured, None for a datasheet's figure.
    """

    value: float
    unit: str
    measured: bool
    source: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the device of one run. ``reason`` says why there is no datasheet, empty where there is one."""

    device: DeviceFacts
    sheet: GpuSheet | None
    reason: str
    ceilings: tuple[Ceiling, ...] = ()
    tf32_products: bool = False

    @property
    def bandwidth(self) -> Roof | None:
        """Return the DRAM bandwidth used for floors: measured where the run calibrated, else the datasheet's."""
        return self._measured("copy", None) or self.dram_spec

    @property
    def dram_spec(self) -> Roof | None:
        """Return the datasheet's DRAM bandwidth."""
        return self._spec(self.sheet.dram_gbps if self.sheet else None, "GB/s", "dram_bandwidth")

    @property
    def dram_attainable(self) -> Roof | None:
        """Return what a copy was published to reach on this product, None where nothing was."""
        return self._spec(self.sheet.dram_attainable_gbps if self.sheet else None, "GB/s", "dram_bandwidth_attainable")

    @property
    def cache_bytes(self) -> int | None:
        """Return the capacity behind which only DRAM can be: L2, on AMD with the Infinity Cache; a CPU's last level."""
        if self.device.type == "cpu":
            return self.device.l3_bytes or self.device.l2_bytes
        infinity = self.sheet.figure("infinity_cache") if self.sheet else None
        l2 = self.device.l2_bytes or (int(self.sheet.l2_mib * 2**20) if self.sheet and self.sheet.l2_mib else None)
        return l2 + int(infinity.value * 2**20) if l2 and infinity else l2

    @property
    def clock_mhz(self) -> float | None:
        """Return the highest clock the device may have run at: as it told the run, or as its product is known for."""
        known = self.sheet.max_clock_mhz if self.sheet else None
        return max((clock for clock in (known, self.device.clock_mhz) if clock), default=None)

    @property
    def cache_to_sm(self) -> Roof | None:
        """Return the most that the multiprocessors take in from the L2: bytes per clock of each, at its highest clock.

        Approximation: each takes in 64 bytes per clock, the width known of some GPUs; no vendor's figure here confirms it.
        """
        sheet = self.sheet
        if sheet is None or not sheet.l2_to_sm_bytes_per_clock or not self.clock_mhz or not sheet.sm_count:
            return None
        value = sheet.l2_to_sm_bytes_per_clock * self.clock_mhz * sheet.sm_count / 1e3
        width = sheet.figure("l2_to_sm")
        known = f"; source of the width: {width.source}" if width and width.source else ""
        source = (
            f"for {sheet.name}: {sheet.l2_to_sm_bytes_per_clock:g} B per clock into each of {sheet.sm_count} "
            f"multiprocessors, at {self.clock_mhz:g} MHz{known}"
        )
        return Roof(value, "GB/s", measured=False, source=source)

    def peak(self, unit: Unit, dtype: str, *, product: bool = True) -> Roof | None:
        """Return the peak used for floors: measured (products only) where the run calibrated it, else the datasheet's."""
        measured = self._measured_product(unit, dtype) if product or unit == "core" else None
        return measured or self.spec_peak(unit, dtype)

    def spec_peak(self, unit: Unit, dtype: str) -> Roof | None:
        """Return the datasheet's dense peak of a unit in one number format."""
        if self.sheet is None:
            return None
        table = self.sheet.matrix_tflops if unit == "matrix" else self.sheet.vector_tflops
        if dtype == HALF_ACCUMULATE and dtype not in table:
            dtype = "float16"  # one rate for both
        return self._spec(table.get(dtype), "TFLOP/s", f"{unit}.{dtype}")

    def matrix_attainable(self, dtype: str) -> Roof | None:
        """Return what a large matrix product was published to reach on this product, None where nothing was."""
        value = self.sheet.matrix_attainable_tflops.get(dtype) if self.sheet else None
        return self._spec(value, "TFLOP/s", f"matrix_attainable.{dtype}")

    def physical_peak(self, unit: Unit, dtype: str) -> Roof | None:
        """Return the datasheet's peak at the highest clock of the device, where its figure is for a lower one."""
        spec, sheet = self.spec_peak(unit, dtype), self.sheet
        quoted = (sheet.peak_clock_mhz if unit == "matrix" else sheet.boost_clock_mhz) if sheet else None
        if spec is None or not quoted or not self.clock_mhz or self.clock_mhz <= quoted:
            return spec
        value = spec.value * self.clock_mhz / quoted
        return Roof(value, spec.unit, measured=False, source=f"{spec.source}, at {self.clock_mhz:g} MHz")

    def missing(self, what: str) -> str:
        """Return why a limit is not known."""
        if self.device.type == "cpu":
            return NOT_CALIBRATED
        if "attainable" in what and not self.reason:
            return "no measurement of this product is in the database"
        return self.reason or f"not in the datasheet ({what}), and the run was not calibrated for it"

    def _spec(self, value: float | None, unit: str, figure: str) -> Roof | None:
        if self.sheet is None or value is None:
            return None
        found = self.sheet.figure(figure)
        # what others measured is no datasheet's figure
        title = f"for {self.sheet.name}" if "attainable" in figure else self.sheet.title
        source = title + (f": {found.source}" if found else "")
        return Roof(float(value), unit, measured=False, source=source)

    def _measured_product(self, unit: Unit, dtype: str) -> Roof | None:
        if dtype == "tfloat32":
            return self._measured("matmul", "float32") if self.tf32_products else None
        if dtype == HALF_ACCUMULATE:
            return None  # torch's own products, which were measured, accumulate in float32
        if unit == "vector" and self.tf32_products:
            return None  # the float32 ceiling was measured on matrix units
        return self._measured("matmul", dtype)

    def _measured(self, name: str, dtype: str | None) -> Roof | None:
        found = next((c for c in self.ceilings if c.name == name and (dtype is None or c.dtype == dtype)), None)
        if found is None:
            return None
        source = f"{name} measured on this device, {found.size}"
        return Roof(found.value, found.unit, measured=True, source=source, low=found.low, high=found.high)


def limits_of(run: Run, device: DeviceFacts, own: GpuSheet | None = None) -> Limits:
    """Return the limits of ``device`` in ``run``; ``own`` is the user's datasheet."""
    ceilings = run.facts.ceilings if run.facts else ()
    tf32 = bool(run.facts and device.type == "cuda" and run.facts.settings.matmul_precision in ("high", "medium"))
    if device.type == "cpu":
        return Limits(device, None, NOT_CALIBRATED if not ceilings else "", ceilings)
    found = look_up(device, own)
    return Limits(device, found.sheet, found.reason, ceilings, tf32)


def limit_facts(limits: Limits, used: tuple[tuple[Unit, str], ...]) -> tuple[LimitFact, ...]:
    """Return the limits as the page shows them, with the peaks of the units in ``used``; one that is not known says why."""
    gpu = limits.device.type == "cuda"
    facts = [_fact("bandwidth used for floors", limits.bandwidth, "GB/s", limits, line="DRAM" if gpu else "memory")]
    if gpu:
        facts.append(_fact("DRAM bandwidth, datasheet", limits.dram_spec, "GB/s", limits, line="DRAM"))
        published = _fact("DRAM bandwidth, attainable by a copy", limits.dram_attainable, "GB/s", limits, line=ATTAINABLE)
        facts.append(published)
        facts.append(_cache_fact(limits))
    for unit, dtype in used:
        roof = limits.peak(unit, dtype)
        name = f"{unit if gpu else 'arithmetic'} peak, {dtype}"
        facts.append(_fact(f"{name}, used for floors", roof, "TFLOP/s", limits, line=name))
        reached = limits.matrix_attainable(dtype) if unit == "matrix" else None
        if reached:
            facts.append(_fact(f"{name}, attainable by a large product", reached, "TFLOP/s", limits))
        if gpu and roof and roof.measured:
            facts.append(_fact(f"{name}, datasheet", limits.spec_peak(unit, dtype), "TFLOP/s", limits, line=name))
    return tuple(facts)


def _cache_fact(limits: Limits) -> LimitFact:
    """Return the way from the L2: a product of three figures, and its width is assumed, so it is no vendor's figure."""
    found = _fact("L2 to multiprocessors, width times clock", limits.cache_to_sm, "GB/s", limits)
    if found.figure.value is None:
        return found
    return replace(found, figure=replace(found.figure, evidence=Evidence.MODELLED))


def _fact(name: str, roof: Roof | None, unit: str, limits: Limits, line: str = "") -> LimitFact:
    if roof is None:
        return LimitFact(name, Quantity.missing(unit, limits.missing(name)), line)
    evidence = Evidence.MEASURED if roof.measured else Evidence.SPEC
    return LimitFact(name, Quantity(roof.value, roof.unit, evidence, source=roof.source), line)
