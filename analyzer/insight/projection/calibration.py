"""The calibration: what share of its roofline each GPU reaches in each class, and how wrong that is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from analyzer.insight.projection.features import Device, Floats, compute_share, device_feature, features, launch_us, roofline_us

FILE = "calibration.json"
FORMAT_VERSION = 2
KNOWN, NEW_TARGET, NEW_SOURCE, BOTH_NEW = SCHEMES = (
    "both GPUs calibrated", "target not calibrated", "source not calibrated", "neither GPU calibrated",
)  # fmt: skip
"""How an interval was made: from errors on other shapes, or from errors on GPUs that were left out."""
_REACH = 1.5


@dataclass(frozen=True, slots=True)
class Rule:
    """How one scheme projects.

    ``general`` and ``own``: the shares of the source's deviation from the pooled fit, and of a call's deviation from its GPU's
    fit, that carry over to the target. ``factor``: half-width over the expected error.
    """

    general: float
    own: float
    factor: float


def stretch(device: Device, power: tuple[float, float]) -> float:
    """Return how much larger the error on the compute side is to be expected for a GPU below the range ``power``.

    ``power``: logarithms of the watts per TFLOP of the calibrated GPUs. Approximation: the error of a GPU with less power than
    all of those grows in proportion to the distance; more power than theirs makes no difference.
    """
    return 1.0 + _REACH * max(power[0] - math.log(device.watts_per_tflop), 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class ClassFit:
    """One class. ``own``: coefficients by GPU; ``pooled``: of all GPUs together, with that of ``device_feature`` last.

    ``spread`` by GPU and ``outside`` (a GPU that is not calibrated) are sizes of errors in log time on the memory and on the
    compute side; ``power`` is the range of the logarithms of watts per TFLOP in which GPUs are told apart, ``rules`` by scheme.
    ``least`` and ``most``: the range of the sizes that were measured; ``least_us``: the shortest time; ``n``: calls by GPU;
    ``usual``: by GPU, from the 1st to the 99th percentile of log efficiency minus what was expected of calls not seen.
    """

    own: Mapping[str, Floats]
    spread: Mapping[str, tuple[float, float]]
    pooled: Floats
    outside: tuple[float, float]
    power: tuple[float, float]
    rules: Mapping[str, Rule]
    least: Floats
    most: Floats
    least_us: float
    n: Mapping[str, int]
    usual: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def error_size(self, key: str, share: Floats, stretched: float = 1.0) -> Floats:
        """Return the expected size of the error on one GPU, ``key`` empty for one that is not calibrated.

        ``share``: how far on the compute side each call is; ``stretched``: the factor of that side.
        """
        memory, compute = self.spread.get(key, self.outside)
        return np.where(share > 0.5, compute * stretched, memory)

    def inside(self, calls: Floats) -> np.ndarray:
        """Tell of each call whether its sizes are in the range that was measured."""
        fits = (calls >= self.least * 0.99) & (calls <= self.most * 1.01)
        found: np.ndarray = np.asarray(fits.all(axis=1))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """Projected times in microseconds, and how they were made: one of SCHEMES."""

    time_us: Floats
    low_us: Floats
    high_us: Floats
    scheme: str


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """GPUs that were measured, with the datasheet figures used, and a fit per class.

    ``source``: where the latencies are from; ``scores``: rows of ``schema.projection.Score``.
    """

    devices: Mapping[str, Device]
    fits: Mapping[str, ClassFit]
    source: Mapping[str, str] = field(default_factory=dict)
    scores: tuple[Mapping[str, Any], ...] = ()

    def like(self, kind: str, device: Device) -> str:
        """Return the calibrated GPU whose efficiencies serve ``device``: itself, or one with the same chip; else empty."""
        own = self.fits[kind].own
        if device.key in own:
            return device.key
        return next((key for key in sorted(own) if self.devices[key].chip == device.chip), "")

    def project(self, kind: str, calls: Floats, time_us: Floats, source: Device, target: Device) -> Estimates:
        """Return what ``calls`` (columns ``features.SIZES``) that took ``time_us`` on ``source`` would take on ``target``.

        t = o + (t_s - o) (R_d / e_d) / (R_s / e_s), with R = max(FLOP / peak, bytes / bandwidth), o the launch floor and e the
        share of R that the GPU reaches; what a call deviates by on the source carries over in part. The interval: the expected
        errors of both GPUs together, times a conformal factor.

        Approximation: a GPU that was not calibrated reaches what one with the same chip does, else what all calibrated ones
        together suggest for its watts per TFLOP.
        """
        fit = self.fits[kind]
        new = [device.key not in fit.own for device in (source, target)]
        scheme = {(False, False): KNOWN, (False, True): NEW_TARGET, (True, False): NEW_SOURCE}.get((new[0], new[1]), BOTH_NEW)
        rule = fit.rules[scheme]
        floor = launch_us(time_us)
        reached = np.log(np.maximum(*roofline_us(calls, source)) / (time_us - floor))
        general, own = self._deviations(kind, calls, source, target, reached)
        log = self._level(kind, calls, target) + rule.general * general + rule.own * own
        scaled = np.maximum(*roofline_us(calls, target)) / np.exp(log)
        errors = [
            fit.error_size(
                "" if unknown else device.key,
                compute_share(calls, device),
                stretch(device, fit.power) if unknown else 1.0,
            )
            for device, unknown in zip((source, target), new, strict=True)
        ]
        half = rule.factor * np.hypot(*errors)
        return Estimates(floor + scaled, floor + scaled * np.exp(-half), floor + scaled * np.exp(half), scheme)

    def unusual(self, kind: str, calls: Floats, time_us: Floats, device: Device) -> np.ndarray:
        """Tell of each call whether its time on ``device`` is outside of what calibrated calls of the class took there.

        A GPU without latencies of its own is held against the calibrated one with its chip; without either all are unusual.
        """
        like = self.like(kind, device)
        if like not in self.fits[kind].usual:
            return np.ones(len(calls), bool)
        low, high = self.fits[kind].usual[like]
        reached = np.log(np.maximum(*roofline_us(calls, device)) / (time_us - launch_us(time_us)))
        rest = reached - self._level(kind, calls, device)
        found: np.ndarray = np.logical_or(rest < low, rest > high)
        return found

    def _deviations(self, kind: str, calls: Floats, source: Device, target: Device, reached: Floats) -> tuple[Floats, Floats]:
        """Return how far the source's class and how far each call deviate from what is usual, in log efficiency."""
        fit = self.fits[kind]
        expected = self._level(kind, calls, source)
        if source.key not in fit.own:
            return reached - expected, np.zeros(len(calls))
        if self.like(kind, target):
            return np.zeros(len(calls)), reached - expected
        return expected - self._pooled(kind, calls, source), reached - expected

    def _level(self, kind: str, calls: Floats, device: Device) -> Floats:
        """Return the logarithm of the efficiency that each call is expected to reach on one GPU."""
        like = self.like(kind, device)
        if not like:
            return self._pooled(kind, calls, device)
        found: Floats = features(kind, calls, device) @ self.fits[kind].own[like]
        return found

    def _pooled(self, kind: str, calls: Floats, device: Device) -> Floats:
        fit = self.fits[kind]
        found: Floats = np.hstack([features(kind, calls, device), device_feature(calls, device, fit.power)]) @ fit.pooled
        return found


def dump(calibration: Calibration) -> dict[str, Any]:
    """Return the calibration as JSON values."""
    return {
        "format_version": FORMAT_VERSION,
        "source": dict(calibration.source),
        "devices": [asdict(device) for device in calibration.devices.values()],
        "scores": [dict(row) for row in calibration.scores],
        "classes": {kind: _plain(asdict(fit)) for kind, fit in calibration.fits.items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return [float(f"{number:.6g}") for number in value.tolist()]
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def parse(found: Mapping[str, Any]) -> Calibration:
    """Return what ``dump`` made JSON values of."""
    devices = {entry["key"]: Device(**entry) for entry in found["devices"]}
    return Calibration(
        devices, {kind: _class_fit(entry) for kind, entry in found["classes"].items()}, found["source"], tuple(found["scores"])
    )


def _class_fit(entry: Mapping[str, Any]) -> ClassFit:
    arrays = {name: np.asarray(entry[name], np.float64) for name in ("pooled", "least", "most")}
    return ClassFit(
        own={key: np.asarray(values, np.float64) for key, values in entry["own"].items()},
        spread={key: (pair[0], pair[1]) for key, pair in entry["spread"].items()},
        outside=(entry["outside"][0], entry["outside"][1]), power=(entry["power"][0], entry["power"][1]),
        rules={scheme: Rule(**rule) for scheme, rule in entry["rules"].items()},
        least_us=entry["least_us"], n=entry["n"], usual={key: (p[0], p[1]) for key, p in entry["usual"].items()}, **arrays,
    )  # fmt: skip


@lru_cache(maxsize=1)
def shipped() -> Calibration:
    """Return the calibration that comes with the package; ``python -m benchmarks.projection --write`` makes it."""
    text = (resources.files("analyzer.insight.projection") / FILE).read_text(encoding="utf-8")
    return parse(json.loads(text))
