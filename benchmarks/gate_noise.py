"""How often the gate is wrong, and what it sees, on runs that were recorded once with the noise of their machine.

``python -m benchmarks.gate_noise`` prints the tables; ``--write`` refreshes those of docs/gate.md; ``--record NAME DIR``
records anew below DIR (seven to twenty minutes on two CPU cores) and writes tests/data/gate/NAME.json.gz.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from analyzer.insight.gate import gate_run, hold_against
from analyzer.schema.gate import Gate, GateGroup, GateRun

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data" / "gate"
RECORDINGS = {"busy": "other programs at work", "quiet": "hardly anything else at work"}
"""The recordings in DATA, and what else the machine did."""
DOC = ROOT / "docs" / "gate.md"
BEGIN, END = "<!-- noise: begin -->", "<!-- noise: end -->"
RUNS = {"busy": 20, "quiet": 12}
EFFECTS = (5, 10, 20)
REPEATS = (1, 2, 3, 5, 10)
DRAWS = 30
SEED = 0
MODELS = ("test_vit", "test_resnet")
"""A ViT of 0.4 M and a ResNet of 0.5 M parameters that timm keeps for tests."""
KEPT_ITERATIONS, KEPT_STEPS = 100, 36
"""Of 150 iterations and 60 traced steps, so that the files stay small."""
SLOWED = {"test_vit": "attention", "test_resnet": "convolution"}
"""The class that is made slower."""
_RESOLUTION_US = 0.1
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


def recorded(name: str) -> dict[str, list[GateRun]]:
    """Return the runs of one of RECORDINGS by model, in the order in which they were recorded."""
    content = json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes()))
    return {model: [_unpacked(entry, run) for run in entry["runs"]] for model, entry in content["models"].items()}


def _unpacked(entry: dict[str, Any], run: dict[str, Any]) -> GateRun:
    groups = []
    for number, (kind, op, shapes, dtype, module) in enumerate(entry["groups"]):
        steps = tuple(value * _RESOLUTION_US for value in run["steps"][number])
        if steps:
            groups.append(GateGroup(kind, op, shapes, dtype, module, float(np.mean(steps)), steps))
    samples = tuple(tuple(value * _RESOLUTION_US / 1e3 for value in process) for process in run["samples"])
    facts = [tuple((str(name), str(value)) for name, value in entry[key]) for key in ("conditions", "surroundings")]
    return GateRun(run["name"], entry["label"], entry["label"], facts[0], facts[1], samples, tuple(groups), serial=True)


def slowed(run: GateRun, kind: str, effect_pct: float) -> GateRun:
    """Return ``run`` with the time of one operator class multiplied, and its latency longer by the share of that."""
    factor = 1 + effect_pct / 100
    groups = tuple(
        replace(group, time_us=group.time_us * factor, step_us=tuple(us * factor for us in group.step_us))
        if group.kind == kind
        else group
        for group in run.groups
    )
    added_ms = sum(group.time_us for group in run.groups if group.kind == kind) * (factor - 1) / 1e3
    samples = tuple(tuple(ms + added_ms for ms in process) for process in run.samples)
    return replace(run, groups=groups, samples=samples)


def state_of(gate: Gate, name: str) -> str:
    """Return what was decided of the class ``name`` of the only model."""
    return next(row.state for row in gate.models[0].rows if row.name == name)


def steadiest(runs: Sequence[GateRun], count: int) -> list[GateRun]:
    """Return the ``count`` runs whose processes and iterations vary least, by their own figures alone."""
    return sorted(runs, key=_unrest)[:count]


def _unrest(run: GateRun) -> float:
    every = np.concatenate([np.log(process) for process in run.samples])
    return float(np.subtract(*np.percentile(every, [75, 25])))


def false_alarms(runs: Sequence[GateRun]) -> tuple[int, int, int]:
    """Return of all ordered pairs of identical runs: how many fail, how many rows are called improved, and how many pairs."""
    failed = improved = pairs = 0
    for old, new in permutations(runs, 2):
        gate = hold_against([new], [old], 5.0)
        failed += gate.failed
        improved += len(gate.rows("improved"))
        pairs += 1
    return failed, improved, pairs


def splits(runs: Sequence[GateRun], repeats: int) -> Iterator[tuple[list[GateRun], list[GateRun]]]:
    """Yield DRAWS random choices of ``repeats`` runs for each side, none on both."""
    rng = np.random.default_rng(SEED)
    for _ in range(DRAWS):
        chosen = rng.permutation(len(runs))[: 2 * repeats]
        yield [runs[place] for place in chosen[:repeats]], [runs[place] for place in chosen[repeats:]]


def detection(runs: Sequence[GateRun], kind: str, effect_pct: float, repeats: int) -> float:
    """Return the percentage of splits in which the class that was made slower is a regression."""
    caught = 0
    for old, new in splits(runs, repeats):
        gate = hold_against([slowed(run, kind, effect_pct) for run in new], old, 5.0)
        caught += state_of(gate, kind) == "regression"
    return 100 * caught / DRAWS


def alarm_table(recordings: dict[str, dict[str, list[GateRun]]]) -> list[str]:
    """Return the table of false alarms as lines of Markdown."""
    lines = [
        "| machine | model | ordered pairs of identical runs | that fail | rows called improved |",
        "|---|---|--:|--:|--:|",
    ]
    for name, models in recordings.items():
        for model, runs in models.items():
            failed, improved, pairs = false_alarms(runs)
            lines.append(f"| {RECORDINGS[name]} | {model} | {pairs} | {failed} | {improved} |")
    return lines


def detection_table(recordings: dict[str, dict[str, list[GateRun]]]) -> list[str]:
    """Return the table of what is found as lines of Markdown."""
    lines = [f"| machine | model | class made slower | by | {' | '.join(f'{n} a side' for n in REPEATS)} |"]
    lines += ["|---|---|---|--:|" + "--:|" * len(REPEATS)]
    for name, models in recordings.items():
        for model, runs in models.items():
            kind = SLOWED[model]
            for effect in EFFECTS:
                found = [detection(runs, kind, effect, number) if 2 * number <= len(runs) else None for number in REPEATS]
                cells = " | ".join("n/a" if value is None else f"{value:.0f} %" for value in found)
                lines.append(f"| {RECORDINGS[name]} | {model} | {kind} | {effect} % | {cells} |")
    return lines


def tables() -> str:
    """Return both tables as Markdown."""
    recordings = {name: recorded(name) for name in RECORDINGS}
    head = f"How often a class that was made slower is found, over {DRAWS} random choices of the runs of either side:"
    return "\n".join([*alarm_table(recordings), "", head, "", *detection_table(recordings)]) + "\n"


def record(name: str, directory: Path) -> None:
    """Record RUNS[name] runs of each model in turn below ``directory``, each in fresh processes, and pack them."""
    from analyzer.capture import session
    from analyzer.progress import Reporter
    from analyzer.schema.settings import CaptureSettings, ModelChoice

    settings = CaptureSettings(
        device="cpu", batch_size=1, image_size=64, iterations=150, repeats=3, traced_steps=60, threads=1, calibrate="off",
        warmup_max_s=2.0, out_root=directory,
    )  # fmt: skip
    families = ("vit", "cnn")
    for _ in range(RUNS[name]):
        for family, model in zip(families, MODELS, strict=True):
            session.capture(ModelChoice(family, model, model), settings, Reporter())
    pack(name, {model: sorted(directory.glob(f"{model}-*")) for model in MODELS})


def pack(name: str, directories: dict[str, Sequence[Path]]) -> None:
    """Write what the gate needs of the runs in ``directories`` as recording ``name``, with all blocks as one."""
    from analyzer.analysis import digests

    content = {model: _packed([_merged(gate_run(run)) for run in digests(paths)]) for model, paths in directories.items()}
    text = json.dumps({"resolution_us": _RESOLUTION_US, "models": content}, separators=(",", ":"))
    DATA.mkdir(parents=True, exist_ok=True)
    (DATA / f"{name}.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def _merged(run: GateRun) -> GateRun:
    """Return ``run`` with the same operator of all blocks as one, ``blocks.*.attn.qkv``, so that the file stays small."""
    table: dict[tuple[str, ...], GateGroup] = {}
    for group in run.groups:
        module = _NUMBER.sub("*", group.module)
        key = (group.kind, group.op, group.shapes, group.dtype, module)
        before = table.get(key)
        steps = group.step_us if before is None else tuple(map(sum, zip(before.step_us, group.step_us, strict=True)))
        table[key] = replace(group, module=module, step_us=steps, kernels=())
    return replace(run, groups=tuple(table.values()))


def _packed(runs: Sequence[GateRun]) -> dict[str, Any]:
    keys = list(dict.fromkeys(_key(group) for run in runs for group in run.groups))
    return {
        "label": runs[0].label,
        "conditions": runs[0].conditions,
        "surroundings": runs[0].surroundings,
        "groups": keys,
        "runs": [_numbers(f"run-{number:02d}", run, keys) for number, run in enumerate(runs, 1)],
    }


def _key(group: GateGroup) -> tuple[str, str, str, str, str]:
    return group.kind, group.op, group.shapes, group.dtype, group.module


def _numbers(name: str, run: GateRun, keys: Sequence[tuple[str, str, str, str, str]]) -> dict[str, Any]:
    table = {_key(group): group.step_us for group in run.groups}
    return {
        "name": name,
        "samples": [_whole_numbers(1e3 * ms for ms in process[:KEPT_ITERATIONS]) for process in run.samples],
        "steps": [_whole_numbers(table.get(key, ())[:KEPT_STEPS]) for key in keys],
    }


def _whole_numbers(values_us: Iterable[float]) -> list[int]:
    return [round(us / _RESOLUTION_US) for us in values_us]


def write(text: str, begin: str = BEGIN, end: str = END) -> None:
    """Put ``text`` between the marks of docs/gate.md."""
    page = DOC.read_text("utf-8")
    head, rest = page.split(begin)
    _, tail = rest.split(end)
    DOC.write_text(f"{head}{begin}\n{text}{end}{tail}", "utf-8")


def main(show: Callable[[str], object] = print) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="refresh the tables of docs/gate.md")
    parser.add_argument("--record", nargs=2, metavar=("NAME", "DIR"), help="record anew below DIR, as busy or quiet")
    given = parser.parse_args()
    if given.record is not None:
        record(given.record[0], Path(given.record[1]))
    text = tables()
    show(text)
    if given.write:
        write(text)


if __name__ == "__main__":
    main()
