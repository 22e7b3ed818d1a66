"""Calibrate the projection on public latencies and score it on latencies that were held out.

``python -m benchmarks.projection`` prints the table; ``--write`` refreshes the calibration file of the package and the table of
docs/projection.md. Reads ``../shared/data/neusight_latencies.csv.gz`` (see README.md there), or the file named by ``--data``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyzer.hardware.lookup import sheet_of
from analyzer.insight.projection.calibration import FILE, Calibration, dump
from analyzer.insight.projection.features import Device, Floats, launch_us, roofline_us
from analyzer.insight.projection.fit import Measured, Samples, alike, calibrate
from analyzer.insight.projection.scores import GPUS, NO_TWINS, PAIRS, RATIOS, SHAPES, SOURCES

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data" / "neusight_latencies.csv.gz"
DOC = ROOT / "docs" / "projection.md"
PACKAGE_FILE = ROOT / "analyzer" / "insight" / "projection" / FILE
BEGIN, END = "<!-- validation: begin -->", "<!-- validation: end -->"
SEED = 0
BAD_PCT = 80
FIGURES = ("median_pct", "p90_pct", "bias_pct", "coverage_pct", "half_pct")

PROVENANCE = {
    "latencies": "NeuSight data set (ASPLOS 2025), MIT licence: 20 309 float32 latencies, PyTorch 2.1, eight GPUs",
    "figures": "datasheets of the database; of P4, P100 PCIe and V100 PCIe from memory, not checked (benchmarks/projection.py)",
    "made by": "python -m benchmarks.projection --write",
}
SHEETS = {
    "NVIDIA A100-PCIE-40GB": "a100_pcie_40gb",
    "NVIDIA A100 80GB PCIe": "a100_pcie_80gb",
    "NVIDIA H100 80GB HBM3": "h100_sxm5_80gb",
    "NVIDIA L4": "l4",
    "Tesla T4": "t4",
}
RECALLED = "datasheet figures from memory, not checked"
OTHERS = {
    "Tesla P4": Device("p4", "P4", "GP104", 5.5, 192.0, 75.0, 2 * 2**20, RECALLED),
    "Tesla P100-PCIE-16GB": Device("p100_pcie_16gb", "P100 PCIe 16GB", "GP100", 9.3, 732.0, 250.0, 4 * 2**20, RECALLED),
    "Tesla V100-PCIE-32GB": Device("v100_pcie_32gb", "V100 PCIe 32GB", "GV100", 14.0, 900.0, 250.0, 6 * 2**20, RECALLED),
}
"""GPUs of the latencies that the database has no sheet of."""

_FAMILIES = {
    "linear": "linear", "bmm": "bmm", "conv": "convolution", "elem": "pointwise", "ln": "normalisation", "softmax": "softmax",
}  # fmt: skip
_BINARY = ("add", "div", "mul", "pow")
ITEM = 4


def devices() -> dict[str, Device]:
    """Return the GPUs of the latencies by their key."""
    found = {key: _device(key) for key in SHEETS.values()} | {device.key: device for device in OTHERS.values()}
    return dict(sorted(found.items()))


def _device(key: str) -> Device:
    sheet = sheet_of(key)
    figures = (sheet.vector_tflops["float32"], sheet.dram_gbps, sheet.power_w, sheet.l2_mib)
    tflops, gbps, power, l2 = (float(value) for value in figures if value is not None)
    return Device(key, sheet.name, sheet.chip, tflops, gbps, power, l2 * 2**20, "database of the package")


def call(op: str, shape: str) -> tuple[float, ...]:
    """Return the sizes of one call (columns ``features.SIZES``). In ``linear``, N is in-features and K out-features.

    Convolutions are 3 x 3 with stride 1 and padding 1: images, input channels, output channels, kernel, side, stride, padding.
    """
    size = [float(part) for part in shape.split("x")]
    if op in ("linear", "bmm"):
        batch, rows, depth, columns = size
        flop = 2 * batch * rows * depth * columns
        if op == "linear":
            moved = batch * rows * depth + depth * columns + batch * rows * columns + columns
            return 1.0, batch * rows, columns, depth, flop, ITEM * moved
        return batch, rows, columns, depth, flop, ITEM * batch * (rows * depth + depth * columns + rows * columns)
    if op == "conv":
        images, channels, out, kernel, side, stride, padding = size
        pixels = ((side + 2 * padding - kernel) // stride + 1) ** 2
        depth = channels * kernel * kernel
        moved = images * channels * side * side + depth * out + images * out * pixels
        return 1.0, images * pixels, out, depth, 2 * images * pixels * out * depth, ITEM * moved
    count = float(np.prod(size))
    tensors = 3 if op in _BINARY else 2
    columns = size[-1] if op in ("ln", "softmax") else 1.0  # a pointwise kernel sees elements, not rows
    return 1.0, count / columns, columns, 1.0, count, ITEM * tensors * count


def read(path: Path = DATA) -> Measured:
    """Return the latencies by class and GPU."""
    table = pd.read_csv(path)
    keys = SHEETS | {name: device.key for name, device in OTHERS.items()}
    table["kind"], table["key"] = table["family"].map(_FAMILIES), table["device"].map(keys)
    table["number"] = table.groupby(["op", "shape"], sort=True).ngroup()
    sizes = np.array([call(op, shape) for op, shape in zip(table["op"], table["shape"], strict=True)])
    time = table["latency_ms"].to_numpy(np.float64) * 1e3
    out: dict[str, dict[str, Samples]] = {}
    numbers = table["number"].to_numpy(np.int64)
    for kind in _FAMILIES.values():
        for key in keys.values():
            mine = (table["kind"].eq(kind) & table["key"].eq(key)).to_numpy()
            if mine.any():
                out.setdefault(kind, {})[key] = Samples(numbers[mine], sizes[mine], time[mine])
    return out


def split(measured: Measured, seed: int = SEED) -> tuple[Measured, Measured]:
    """Return two halves that share no sizes, whatever the operator: to a fit, sum and product of two vectors are one call."""
    random = np.random.default_rng(seed)
    kept: dict[str, dict[str, Samples]] = {}
    held: dict[str, dict[str, Samples]] = {}
    for kind, by_gpu in measured.items():
        sizes = alike(np.concatenate([samples.calls for samples in by_gpu.values()]))
        chosen = random.permutation(int(sizes.max()) + 1)[: (int(sizes.max()) + 1) // 2]
        held_out = np.isin(sizes, chosen)
        for key, mine in zip(by_gpu, np.split(held_out, np.cumsum([len(s.shape) for s in by_gpu.values()])[:-1]), strict=True):
            samples = by_gpu[key]
            kept.setdefault(kind, {})[key] = samples.part(~mine)
            held.setdefault(kind, {})[key] = samples.part(mine)
    return kept, held


def without(measured: Measured, *keys: str) -> Measured:
    """Return the latencies of all other GPUs."""
    return {kind: {k: s for k, s in by_gpu.items() if k not in keys} for kind, by_gpu in measured.items()}


def score(
    calibration: Calibration, held: Measured, known: Mapping[str, Device], pairs: set[tuple[str, str]] | None = None
) -> pd.DataFrame:
    """Return a row per held-out call and ordered pair of GPUs: error in log time, half-width in %, whether it is inside."""
    return pd.concat(list(_scored(calibration, held, known, pairs)), ignore_index=True)


def _scored(
    calibration: Calibration, held: Measured, known: Mapping[str, Device], pairs: set[tuple[str, str]] | None
) -> Iterator[pd.DataFrame]:
    for kind, by_gpu in held.items():
        for s in by_gpu:
            for d in by_gpu:
                if s == d or (pairs is not None and (s, d) not in pairs):
                    continue
                one, two = by_gpu[s], by_gpu[d]
                _, i, j = np.intersect1d(one.shape, two.shape, return_indices=True)
                if not len(i):
                    continue
                found = calibration.project(kind, one.calls[i], one.time_us[i], known[s], known[d])
                truth = two.time_us[j]
                plain, low, high = ratios(one.calls[i], one.time_us[i], known[s], known[d])
                yield pd.DataFrame(
                    {
                        "kind": kind, "source": s, "target": d, "scheme": found.scheme, "truth_us": truth,
                        "error": np.log(found.time_us / truth), "plain": np.log(plain / truth),
                        "plain_inside": (low <= truth) & (truth <= high), "plain_half_pct": 50 * (high - low) / plain,
                        "inside": (found.low_us <= truth) & (truth <= found.high_us),
                        "half_pct": 50 * (found.high_us - found.low_us) / found.time_us,
                    }
                )  # fmt: skip


def ratios(calls: Floats, time_us: Floats, source: Device, target: Device) -> tuple[Floats, Floats, Floats]:
    """Return the time on the target by the ratio of rooflines, and between which the ratios of both figures alone lie."""
    here, there = roofline_us(calls, source), roofline_us(calls, target)
    floor, start = np.maximum(*there), launch_us(time_us)
    found = [floor / np.maximum(*here), *(b / a for a, b in zip(here, there, strict=True))]
    times = np.maximum(start + (time_us - start) * np.array(found), floor)
    return times[0], times.min(axis=0), times.max(axis=0)


def by_shapes(measured: Measured, known: Mapping[str, Device]) -> pd.DataFrame:
    """Return the scores with half of the shapes held out."""
    kept, held = split(measured)
    return score(calibrate(kept, known), held, known)


def by_gpus(measured: Measured, known: Mapping[str, Device], *, source: bool = False) -> pd.DataFrame:
    """Return the scores with each GPU held out in turn, as the target or as the source."""
    out = []
    for key in known:
        pairs = {(key, other) if source else (other, key) for other in known if other != key}
        out.append(score(calibrate(without(measured, key), known), measured, known, pairs))
    return pd.concat(out, ignore_index=True)


def by_pairs(measured: Measured, known: Mapping[str, Device]) -> pd.DataFrame:
    """Return the scores with source and target both held out."""
    out = []
    keys = list(known)
    for place, one in enumerate(keys):
        for two in keys[place + 1 :]:
            found = calibrate(without(measured, one, two), known)
            out.append(score(found, measured, known, {(one, two), (two, one)}))
    return pd.concat(out, ignore_index=True)


def summary(scores: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return n, errors, coverage and half-width by ``by``, with all of them last."""
    rows = [(str(name), part) for name, part in scores.groupby(by, sort=False)] + [("all", scores)]
    return pd.DataFrame([{by: name, **_figures(part)} for name, part in rows])


def _figures(part: pd.DataFrame) -> dict[str, float]:
    error = 100 * (np.exp(part["error"].abs()) - 1)
    return {
        "n": len(part),
        "median_pct": float(error.median()),
        "p90_pct": float(error.quantile(0.9)),
        "bias_pct": float(100 * (np.exp(part["error"].median()) - 1)),
        "coverage_pct": float(100 * part["inside"].mean()),
        "half_pct": float(part["half_pct"].median()),
    }


def ratio_of(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of the ratio of datasheet figures for the same calls: no fit, its ends taken for an interval."""
    columns = {"plain": "error", "plain_inside": "inside", "plain_half_pct": "half_pct"}
    return scores.drop(columns=list(columns.values())).rename(columns=columns)


def without_twins(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of targets with no other product of their chip among the GPUs."""
    chips = [device.chip for device in devices().values()]
    alone = [key for key, device in devices().items() if chips.count(device.chip) == 1]
    return scores[scores["target"].isin(alone)]


def tables(measured: Measured, known: Mapping[str, Device]) -> dict[str, pd.DataFrame]:
    """Return the scores of every call by what was held out."""
    return {
        SHAPES: by_shapes(measured, known),
        GPUS: by_gpus(measured, known),
        SOURCES: by_gpus(measured, known, source=True),
        PAIRS: by_pairs(measured, known),
    }  # every ordered pair of GPUs is in each of the last three


def rows_of(found: Mapping[str, pd.DataFrame], by: str) -> list[dict[str, Any]]:
    """Return the rows of the validation table as the calibration file has them."""
    out = []
    for held, scores in found.items():
        for row in summary(scores, by).to_dict("records"):
            figures = {name: round(float(row[name]), 1) for name in FIGURES}
            out.append({"held_out": held, "title": str(row[by]), "n": int(row["n"]), **figures})
    return out


def all_rows(found: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Return the rows by class, with those of held-out GPUs that have no twin, and of the ratio of datasheet figures."""
    out = rows_of(found, "kind")
    alone = rows_of({GPUS: without_twins(found[GPUS])}, "kind")[-1] | {"title": NO_TWINS}
    after = max(place for place, row in enumerate(out) if row["held_out"] == GPUS) + 1
    return [*out[:after], alone, *out[after:], *rows_of({RATIOS: ratio_of(found[GPUS])}, "kind")]


def cells(scores: pd.DataFrame) -> str:
    """Return coverage and half-width of each class on each held-out target GPU as a table, and the bad cells in words."""
    kinds, keys = list(dict.fromkeys(scores["kind"])), sorted(set(scores["target"]))
    lines = [f"| target held out | {' | '.join(kinds)} |", "|---|" + "---:|" * len(kinds)]
    bad = []
    for key in keys:
        texts = []
        for kind in kinds:
            part = scores[scores["kind"].eq(kind) & scores["target"].eq(key)]
            inside = 100 * float(part["inside"].mean()) if len(part) else 100.0
            texts.append(f"{inside:.0f} ({part['half_pct'].median():.0f})" if len(part) else "none")
            bad += [(inside, f"{kind} on {key} ({inside:.0f} %)")] if inside < BAD_PCT else []
        lines.append(f"| {key} | {' | '.join(texts)} |")
    words = ", ".join(text for _, text in sorted(bad))
    return "\n".join([*lines, "", f"Cells that hold less than {BAD_PCT} % of the times: {words or 'none'}."])


def markdown(found: Mapping[str, pd.DataFrame]) -> str:
    """Return the validation tables of the docs."""
    heads = "n | median error % | p90 error % | bias % | inside interval % | median half-width %"
    parts = []
    for by, what in (("kind", "class"), ("target", "target GPU")):
        lines = [f"| held out | {what} | {heads} |", "|---|---|" + "---:|" * 6]
        for row in all_rows(found) if by == "kind" else rows_of(found, by):
            texts = [row["held_out"], row["title"], f"{row['n']:,}".replace(",", " "), *(f"{row[name]:g}" for name in FIGURES)]
            lines.append(f"| {' | '.join(texts)} |")
        parts.append("\n".join(lines))
    intro = "Share of measured times inside the interval in %, by class and held-out target (median half-width in %):"
    parts += [intro, cells(found[GPUS])]
    return "\n\n".join(parts)


def main() -> None:
    """Print the table; with ``--write`` refresh the package's file and the docs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    measured, known = read(given.data), devices()
    found = tables(measured, known)
    text = markdown(found)
    print(text)
    if given.write:
        final = replace(calibrate(measured, known), source=PROVENANCE, scores=tuple(all_rows(found)))
        PACKAGE_FILE.write_text(json.dumps(dump(final), indent=1) + "\n", encoding="utf-8")
        page = DOC.read_text(encoding="utf-8")
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        DOC.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
