"""Fitting efficiencies and their errors to measured latencies. Pure numpy, deterministic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations

import numpy as np

from analyzer.insight.projection.calibration import (
    BOTH_NEW,
    KNOWN,
    NEW_SOURCE,
    NEW_TARGET,
    SCHEMES,
    Calibration,
    ClassFit,
    Rule,
    stretch,
)
from analyzer.insight.projection.features import (
    CLASSES,
    Device,
    Floats,
    compute_share,
    device_feature,
    features,
    launch_us,
    roofline_us,
)

PENALTY = 1.0
PER_FEATURE = 4
"""A GPU has coefficients of its own in a class only with this many measured calls for each of them."""
FOLDS = 5
SPREAD = 0.85
COVERAGE = 0.87
"""Share of the calibration errors that an interval holds: the 0.85 that is asked for on held-out data, and a margin.

Chosen after 0.90 had given intervals wider than was asked for; docs/projection.md has the figures of both."""
USUAL = 0.01
"""Share of the calibrated calls that counts as unusually slow, and as many as unusually fast."""
CAPS = (2.5, 2.7, 3.3)
"""Logarithms of watts per TFLOP from which more power may make no difference; the one that predicts best is taken."""
_HUBER = 0.03
_ROUNDS = 8
_SCALE = 1000.0

Ints = np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Measured calls of one class on one GPU: ``shape`` (a number for each distinct call), their sizes, microseconds."""

    shape: Ints
    calls: Floats
    time_us: Floats

    def part(self, kept: Ints) -> Samples:
        """Return the samples that ``kept`` (a mask) holds."""
        return Samples(self.shape[kept], self.calls[kept], self.time_us[kept])


Measured = Mapping[str, Mapping[str, Samples]]
"""Samples by class and by key of the GPU."""


def calibrate(measured: Measured, devices: Mapping[str, Device]) -> Calibration:
    """Return the calibration by ``measured``: every number in it comes from there and from datasheets."""
    fits = {kind: _fit_class(kind, measured[kind], devices) for kind in CLASSES if measured.get(kind)}
    return Calibration(dict(devices), fits)


def alike(calls: Floats) -> Ints:
    """Return a number for each call, the same for calls of the same sizes: to a fit they are one, whatever the operator."""
    found: Ints = np.unique(calls.round(3), axis=0, return_inverse=True)[1].ravel()
    return found


def log_efficiency(samples: Samples, device: Device) -> Floats:
    """Return log(roofline time / measured time without the launch) of each call."""
    found: Floats = np.log(np.maximum(*roofline_us(samples.calls, device)) / (samples.time_us - launch_us(samples.time_us)))
    return found


def solve(rows: Floats, values: Floats, weights: Floats) -> Floats:
    """Return coefficients that fit ``values`` by least absolute deviations, shrunk a little: iterated weighted ridge."""
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    constant = scale < 1e-6
    mean[0], scale[constant] = 0.0, 1.0
    design = (rows - mean) / scale
    design[:, constant] = 0.0
    design[:, 0] = 1.0
    penalty = PENALTY * np.eye(len(mean))
    penalty[0, 0] = 1e-9
    current = weights
    found = np.zeros(len(mean))
    for _ in range(_ROUNDS):
        weighted = design * current[:, None]
        found = np.linalg.solve(weighted.T @ design + penalty, weighted.T @ values)
        current = weights * 0.1 / np.maximum(np.abs(values - design @ found), _HUBER)
    raw = np.where(constant, 0.0, found / scale)
    raw[0] = found[0] - float((raw * mean)[1:].sum())
    return raw


@dataclass(frozen=True, slots=True, eq=False)
class _Data:
    """One class, ready to be fitted: per GPU its samples, features and logarithms of efficiency.

    ``cap``: the largest logarithm of watts per TFLOP that tells GPUs apart.
    """

    samples: Mapping[str, Samples]
    devices: Mapping[str, Device]
    rows: Mapping[str, Floats]
    values: Mapping[str, Floats]
    cap: float

    def wide(self, key: str, *left_out: str) -> Floats:
        """Return the features of the calls on one GPU with what tells GPUs apart, in the range of all but ``left_out``."""
        extra = device_feature(self.samples[key].calls, self.devices[key], self.power(*left_out))
        return np.hstack([self.rows[key], extra])

    def pooled(self, *left_out: str) -> Floats:
        """Return the coefficients of all GPUs but ``left_out`` together, each GPU with the same weight."""
        keys = [key for key in self.rows if key not in left_out]
        weights = [np.full(len(self.values[key]), _SCALE / max(len(self.values[key]), 50)) for key in keys]
        whole = np.concatenate([self.wide(key, *left_out) for key in keys])
        return solve(whole, np.concatenate([self.values[key] for key in keys]), np.concatenate(weights))

    def residual(self, key: str, coefficients: Floats, *left_out: str) -> Floats:
        """Return value minus prediction of each call on one GPU, by the pooled coefficients without ``left_out``."""
        found: Floats = self.values[key] - self.wide(key, *left_out) @ coefficients
        return found

    def alone(self, key: str) -> Floats:
        """Return value minus prediction of each call on one GPU by a fit on all others."""
        return self.residual(key, self.pooled(key), key)

    def power(self, *left_out: str) -> tuple[float, float]:
        """Return the range of the watts per TFLOP of all GPUs but ``left_out``, in logarithms, up to the cap."""
        found = [min(float(np.log(self.devices[key].watts_per_tflop)), self.cap) for key in self.rows if key not in left_out]
        return (min(found), max(found)) if found else (0.0, 0.0)

    def stretch(self, key: str, *left_out: str) -> float:
        """Return how much larger the error on a GPU is to be expected than on one amid the others."""
        return stretch(self.devices[key], self.power(key, *left_out))


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """Calls that two GPUs share, of which ``left_out`` are taken for not calibrated.

    In logarithms: ``wanted``, what is to be predicted of the target; ``general`` and ``own``, what is known of the source: how
    its class as a whole and how this very call deviates. ``size``: the expected size of the error.
    """

    wanted: Floats
    general: Floats
    own: Floats
    size: Floats


def _fit_class(kind: str, by_gpu: Mapping[str, Samples], devices: Mapping[str, Device]) -> ClassFit:
    found = {key: features(kind, by_gpu[key].calls, devices[key]) for key in sorted(by_gpu)}
    rows = {key: table for key, table in found.items() if len(table) >= PER_FEATURE * table.shape[1]}
    values = {key: log_efficiency(by_gpu[key], devices[key]) for key in rows}
    data = _with_best_cap(_Data(by_gpu, devices, rows, values, CAPS[0]))
    rest = {key: _cross_residuals(rows[key], values[key], alike(by_gpu[key].calls)) for key in rows}
    sizes = np.concatenate([by_gpu[key].calls for key in found])
    draft = ClassFit(
        own={key: solve(rows[key], values[key], np.ones(len(values[key]))) for key in rows},
        spread={key: _spread(rest[key], by_gpu[key].calls, devices[key]) for key in rows},
        pooled=data.pooled(),
        outside=_outside_spread(data),
        power=data.power(),
        rules={},
        least=sizes.min(axis=0),
        most=sizes.max(axis=0),
        least_us=float(min(by_gpu[key].time_us.min() for key in found)),
        n={key: len(by_gpu[key].time_us) for key in found},
        usual={key: (float(np.quantile(rest[key], USUAL)), float(np.quantile(rest[key], 1 - USUAL))) for key in rows},
    )
    pairs: dict[str, list[_Pair]] = {scheme: [] for scheme in SCHEMES}
    for scheme, pair in _pairs(data, draft, rest):
        pairs[scheme].append(pair)
    return replace(draft, rules={scheme: _rule(of_scheme) for scheme, of_scheme in pairs.items()})


def _cross_residuals(rows: Floats, values: Floats, shapes: Ints) -> Floats:
    """Return value minus prediction of each call by a fit on other shapes."""
    fold = np.random.default_rng(0).integers(0, FOLDS, int(shapes.max()) + 1)[shapes]
    out = np.empty(len(values))
    for number in range(FOLDS):
        mine = fold == number
        if mine.any():
            out[mine] = values[mine] - rows[mine] @ solve(rows[~mine], values[~mine], np.ones(int((~mine).sum())))
    return out


def _with_best_cap(data: _Data) -> _Data:
    """Return ``data`` with the cap whose fits predict GPUs that are left out of this very data best."""

    def error(cap: float) -> float:
        trial = replace(data, cap=cap)
        return float(np.mean([np.median(np.abs(trial.alone(key))) for key in trial.rows]))

    return replace(data, cap=min(CAPS, key=error)) if len(data.rows) > 2 else data


def _spread(residuals: Floats, calls: Floats, device: Device) -> tuple[float, float]:
    """Return the size of the errors on the memory side and on the compute side of the ridge."""
    compute = compute_share(calls, device) > 0.5
    whole = float(np.quantile(np.abs(residuals), SPREAD))
    sides = [residuals[~compute], residuals[compute]]
    memory, arithmetic = (float(np.quantile(np.abs(r), SPREAD)) if len(r) >= 30 else whole for r in sides)
    return max(memory, 0.005), max(arithmetic, 0.005)


def _outside_spread(data: _Data) -> tuple[float, float]:
    """Return the size of the errors on GPUs that were left out, by side, every GPU with the same weight."""
    if len(data.rows) < 3:
        return 0.5, 0.5
    sides = []
    for key in data.rows:
        memory, compute = _spread(data.alone(key), data.samples[key].calls, data.devices[key])
        sides.append((memory, compute / data.stretch(key)))
    memory, compute = (float(np.sqrt(np.mean(np.square(side)))) for side in zip(*sides, strict=True))
    return memory, compute


def _pairs(data: _Data, draft: ClassFit, rest: Mapping[str, Floats]) -> Iterator[tuple[str, _Pair]]:
    """Yield (scheme, pair) for every ordered pair of GPUs that share calls."""
    keys = list(data.rows)
    several = len(keys) > 2
    alone = {key: data.pooled(key) for key in keys} if several else {}
    both = {frozenset((s, d)): data.pooled(s, d) for s, d in combinations(keys, 2)} if several else {}
    for s, d in permutations(keys, 2):
        _, i, j = np.intersect1d(data.samples[s].shape, data.samples[d].shape, return_indices=True)
        if not len(i):
            continue
        none, own = np.zeros(len(i)), rest[s][i]
        sizes = {new: _expected(data, draft, (s, d), (i, j), new) for new in ((), (s,), (d,), (s, d))}
        yield KNOWN, _Pair(rest[d][j], none, own, sizes[()])
        if several:
            general = data.residual(s, alone[d], d)[i]
            yield NEW_TARGET, _Pair(data.residual(d, alone[d], d)[j], general - own, own, sizes[d,])
            yield NEW_SOURCE, _Pair(rest[d][j], data.residual(s, alone[s], s)[i], none, sizes[s,])
            fit = both[frozenset((s, d))]
            yield BOTH_NEW, _Pair(data.residual(d, fit, s, d)[j], data.residual(s, fit, s, d)[i], none, sizes[s, d])


def _expected(data: _Data, draft: ClassFit, pair: tuple[str, str], places: tuple[Ints, Ints], new: tuple[str, ...]) -> Floats:
    """Return the expected size of the error of each call that a pair shares, with ``new`` of it not calibrated."""
    sizes = []
    for key, place in zip(pair, places, strict=True):
        share = compute_share(data.samples[key].calls[place], data.devices[key])
        known = key not in new
        sizes.append(draft.error_size(key if known else "", share, 1.0 if known else data.stretch(key, *new)))
    return np.hypot(*sizes)


def _rule(pairs: Sequence[_Pair]) -> Rule:
    """Return how much of what is known of the source carries over to the target, and the factor of the interval."""
    if not pairs:
        return Rule(1.0, 1.0, 3.0)
    weights = np.concatenate([np.full(len(p.wanted), 1.0 / len(p.wanted)) for p in pairs])
    wanted, general, own, size = (np.concatenate([getattr(p, name) for p in pairs]) for name in _Pair.__slots__)
    shares = _carried(np.stack([general, own], axis=1), wanted, weights)
    error = np.abs(wanted - shares[0] * general - shares[1] * own)
    return Rule(*shares, _quantile(error / size, weights))


def _carried(known: Floats, wanted: Floats, weights: Floats) -> tuple[float, float]:
    """Return the shares, from 0 to 1, of two columns that predict ``wanted`` with the least absolute deviations."""
    current = weights
    found = np.zeros(2)
    for _ in range(_ROUNDS):
        weighted = known * current[:, None]
        found = np.asarray(np.linalg.lstsq(weighted.T @ known, weighted.T @ wanted, rcond=None)[0], np.float64)
        current = weights / np.maximum(np.abs(wanted - known @ found), _HUBER)
    first, second = (float(np.clip(share, 0.0, 1.0)) for share in found)
    return first, second


def _quantile(values: Floats, weights: Floats) -> float:
    """Return the weighted quantile COVERAGE."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(int(np.searchsorted(reached, COVERAGE)), len(order) - 1)])
