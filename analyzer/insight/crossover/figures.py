"""The figures of one measured point, from the digest of its run."""

from __future__ import annotations

from analyzer.format import percent
from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Evidence, Quantity, combine
from analyzer.schema.run import RunFacts
from analyzer.schema.sweep import PointFigures

SECONDS_PER_HOUR = 3600.0
NO_TIME = "the run has no untraced time"
NO_PRICE = "no price was given: price=X, per hour of the device in any currency"
_NO_SAMPLES = "the run has no telemetry"


def point_figures(d: Digest, price: float | None = None) -> PointFigures:
    """Return what a crossover report shows of the run of ``d``. ``price``: of one hour of the device.

    Everything is per image where ``PointFigures`` says so: totals of a batch over its images.
    """
    latency = d.latency.median_ms if d.latency is not None else Quantity.missing("ms", NO_TIME)
    rate = images_per_second(latency, d.batch_size)
    facts = d.facts
    return PointFigures(
        latency_ms=latency,
        images_per_s=rate,
        peak_bytes=d.peak_memory,
        flop=_work(d, d.totals.flop, "FLOP"),
        bytes_compulsory=_work(d, d.totals.bytes_compulsory, "bytes"),
        images_per_j=_per_joule(d),
        images_per_price=_per_price(rate, price),
        tokens=d.tokens,
        attention_ran=facts.model.attention_backend if facts else None,
        samples=d.latency.samples if d.latency is not None else (),
        parameters=facts.model.parameters if facts else None,
        modelled_pct=d.totals.modelled_pct,
        tf32_convolutions=_mixed_tf32(facts),
    )


def _mixed_tf32(facts: RunFacts | None) -> bool:
    """Tell whether convolutions of a run in float32 could run as TF32, torch's default, which its products do not."""
    return bool(facts and facts.settings.dtype == "float32" and facts.settings.convolution_tf32)


def images_per_second(latency: Quantity, batch_size: int | None) -> Quantity:
    """Return images per second from the latency of one batch in ms; the ends of the interval change places."""
    if latency.value is None:
        return Quantity.missing("images/s", latency.source)
    if batch_size is None:
        return Quantity.missing("images/s", "the batch size is not known")
    images = 1e3 * batch_size
    low = images / latency.high if latency.high else None
    high = images / latency.low if latency.low else None
    return Quantity(
        images / latency.value, "images/s", Evidence.DERIVED, low, high, "batch size over the median time of a batch"
    )


def _work(d: Digest, total: float, unit: str) -> Quantity:
    """Return FLOP or compulsory bytes of one image: the totals of the window over its batches and images."""
    if not d.batches or not d.batch_size:
        return Quantity.missing(unit, "the trace does not divide into batches of known size")
    if not total:
        return Quantity.missing(unit, "no operator of the trace has a work model")
    covered = f"operators that take {percent(d.totals.modelled_pct)} of the traced time have a work model"
    return Quantity(total / d.batches / d.batch_size, unit, Evidence.MODELLED, source=covered)


def _per_joule(d: Digest) -> Quantity:
    if d.telemetry is None:
        return Quantity.missing("images/J", _NO_SAMPLES)
    energy = d.telemetry.energy_j
    if not energy.value or not d.batch_size:
        return Quantity.missing("images/J", energy.source or _NO_SAMPLES)
    return Quantity(d.batch_size / energy.value, "images/J", combine(energy.evidence, Evidence.DERIVED), source=energy.source)


def _per_price(rate: Quantity, price: float | None) -> Quantity:
    """Return images per unit of currency: images per hour over the price of an hour."""
    unit = "images per unit of currency"
    if price is None or price <= 0:
        return Quantity.missing(unit, NO_PRICE)
    if rate.value is None:
        return Quantity.missing(unit, rate.source)
    factor = SECONDS_PER_HOUR / price
    low, high = (None if end is None else end * factor for end in (rate.low, rate.high))
    return Quantity(rate.value * factor, unit, Evidence.DERIVED, low, high, "images per hour over the price of an hour")
