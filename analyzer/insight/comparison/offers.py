"""What the device of a run has more of than that of another, by their datasheets."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.insight.comparison.facts import dtype_of
from analyzer.insight.comparison.gains import matrix_type
from analyzer.schema.comparison import Offer
from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Evidence, Quantity


def offers(runs: Sequence[Digest], bases: Sequence[int | None]) -> tuple[Offer, ...]:
    """Return what the device of each run has more of, by its datasheet, than that of the run that its gains are over."""
    out: list[Offer] = []
    for number, (run, baseline) in enumerate(zip(runs, bases, strict=True)):
        if baseline is None or run.device == runs[baseline].device:
            continue
        base = runs[baseline]
        ratios = {
            "DRAM bandwidth": _sheet_ratio(base, run, "dram_bandwidth"),
            _matrix_name(base, run): _matrix_ratio(base, run),
            "vector peak, float32": _sheet_ratio(base, run, "vector.float32"),
            "L2 capacity": _sheet_ratio(base, run, "l2"),
            "multiprocessors": _sheet_ratio(base, run, "sm_count"),
        }
        out += [Offer(name, number, baseline, found, _note(name, base, run)) for name, found in ratios.items()]
    return tuple(out)


def _note(name: str, base: Digest, run: Digest) -> str:
    """Return what a ratio leaves out: the cache that AMD puts between L2 and memory."""
    if name != "L2 capacity":
        return ""
    behind = [
        f"{side.hardware.name} has {figure.value:g} {figure.unit} of Infinity Cache behind its L2"
        for side in (base, run)
        if (figure := side.hardware.figures.get("infinity_cache")) and figure.value
    ]
    return f"{' and '.join(behind)}, which this ratio leaves out" if behind else ""


def _sheet_ratio(base: Digest, run: Digest, was: str, now: str | None = None) -> Quantity:
    for side in (base, run):
        if not side.hardware.figures:
            return Quantity.missing("x", f"{side.device.name}: {side.hardware.reason or 'no datasheet'}")
    first, second = base.hardware.figures.get(was), run.hardware.figures.get(now or was)
    for side, figure, name in ((base, first, was), (run, second, now or was)):
        if figure is None or not figure.value:
            return Quantity.missing("x", f"the sheet of {side.hardware.name} has no {name}")
    if first is None or second is None or not first.value or second.value is None:
        raise TypeError("figures without value were refused above")
    source = f"{second.value:g} {second.unit} of {run.hardware.name} by {first.value:g} {first.unit} of {base.hardware.name}"
    if first.unit != second.unit:
        source += "; one unit is not the size of the other"
    return Quantity(second.value / first.value, "x", Evidence.SPEC, source=source)


def _matrix_name(base: Digest, run: Digest) -> str:
    """Return what the ratio of matrix peaks is called: with both element types where they differ."""
    was, now = (matrix_type(side) or dtype_of(side) or "type not recorded" for side in (base, run))
    return f"matrix peak, {now}" if was == now else f"matrix peak, {now} against {was}"


def _matrix_ratio(base: Digest, run: Digest) -> Quantity:
    types = [matrix_type(side) for side in (base, run)]
    for side, found in zip((base, run), types, strict=True):
        if found is None:
            return Quantity.missing("x", _no_matrix(side))
    return _sheet_ratio(base, run, f"matrix.{types[0]}", f"matrix.{types[1]}")


def _no_matrix(run: Digest) -> str:
    dtype = dtype_of(run)
    if dtype is None:
        return f"{run.label}: the trace does not tell its element type"
    if not run.hardware.figures:
        return f"{run.device.name}: {run.hardware.reason or 'no datasheet'}"
    if run.hardware.vendor == "AMD":
        return f"{run.label}: the sheet of {run.hardware.name} has no matrix peak of {dtype}"
    if dtype == "float32" and "matrix.tfloat32" not in run.hardware.figures:
        return f"{run.label}: {run.hardware.name} has no matrix units for float32, so its products run on vector units"
    if dtype == "float32" and run.facts is None:
        return f"{run.label}: the trace does not tell whether TF32 was allowed"
    return f"{run.label}: {dtype} products run on vector units"
