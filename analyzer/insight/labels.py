"""Names that tell the runs of one report apart: several of one model are called by what differs between their settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from analyzer.schema.access import AccessResult
from analyzer.schema.results import Analysis
from analyzer.schema.run import RunFacts

_IMPLEMENTATIONS = {"flash": "flash", "efficient": "memory-efficient", "cudnn": "cuDNN", "math": "math"}


def told_apart(analyses: Sequence[Analysis]) -> tuple[Analysis, ...]:
    """Return ``analyses`` with labels of which no two are the same.

    A label that several have gets behind it the settings in which those differ: ``ViT-B/16 (math attention)``. What no setting
    tells apart gets a number, in the order given.
    """
    labels = [a.label for a in analyses]
    told = list(labels)
    for label, uses in Counter(labels).items():
        if uses > 1:
            mine = [number for number, own in enumerate(labels) if own == label]
            words = _differing([analyses[number] for number in mine])
            for number, own in zip(mine, words, strict=True):
                told[number] = f"{label} ({', '.join(own)})" if own else label
    return tuple(_called(a, label) for a, label in zip(analyses, _numbered(told), strict=True))


def _called(a: Analysis, label: str) -> Analysis:
    if label == a.label:
        return a
    return replace(a, label=label, access=_renamed(a.access, label) if a.access is not None else None)


def _renamed(access: AccessResult, label: str) -> AccessResult:
    """Return ``access`` with everything in it said of ``label``."""
    return replace(
        access,
        model=label,
        patterns=tuple(replace(one, model=label) for one in access.patterns),
        sizes=tuple(replace(one, model=label) for one in access.sizes),
        costs=tuple(replace(one, model=label) for one in access.costs),
    )


def _numbered(labels: list[str]) -> list[str]:
    """Return ``labels``, those that occur more than once with a number behind them."""
    uses, seen, taken = Counter(labels), Counter[str](), set(labels)
    out = []
    for label in labels:
        name = label
        while uses[label] > 1 and (name == label or name in taken):
            seen[label] += 1
            name = f"{label} ({seen[label]})"
        taken.add(name)
        out.append(name)
    return out


def _differing(group: Sequence[Analysis]) -> list[list[str]]:
    """Return for each run of ``group`` the words for the settings in which the group differs, in a fixed order."""
    found: list[list[str]] = [[] for _ in group]
    for read in _WORDS:
        words = [read(a) for a in group]
        if len(set(words)) > 1:
            for own, word in zip(found, words, strict=True):
                own.extend([word] if word else [])
    return found


def _of_run(read: Callable[[RunFacts], str]) -> Callable[[Analysis], str]:
    return lambda a: read(a.run.facts) if a.run.facts else ""


def _execution(facts: RunFacts) -> str:
    mode = facts.settings.compile
    if mode != "off" and (facts.settings.execution or "").startswith("eager ("):
        return "eager, nothing compiled"
    if mode == "off":
        return "eager" if (facts.settings.execution or "eager") == "eager" else str(facts.settings.execution)
    return "compiled" if mode == "default" else f"compiled ({mode})"


def _attention(facts: RunFacts) -> str:
    """Return the implementation of attention that ran; what was asked for where nothing tells what ran."""
    ran = [word for name, word in _IMPLEMENTATIONS.items() if name in (facts.model.attention_backend or "")]
    if ran:
        return f"{' and '.join(ran)} attention"
    asked = facts.settings.attention
    return f"attention={asked}" if asked else ""


_WORDS: tuple[Callable[[Analysis], str], ...] = (
    lambda a: a.device.name,
    lambda a: f"{a.dtype} by autocast" if a.run.facts and a.run.facts.settings.autocast else a.dtype,
    _of_run(lambda facts: f"batch {facts.settings.batch_size}"),
    _of_run(lambda facts: f"{facts.settings.image_size} px"),
    _of_run(_execution),
    _of_run(_attention),
    _of_run(lambda facts: (facts.settings.memory_format or "").split(" ")[0]),
    _of_run(lambda facts: f"input on the {facts.settings.input}"),
    _of_run(lambda facts: f"cudnn.benchmark {'on' if facts.settings.cudnn_benchmark else 'off'}"),
    lambda a: f"{a.run.facts.settings.threads} threads" if a.device.type == "cpu" and a.run.facts else "",
    _of_run(lambda facts: f"torch {facts.versions['torch']}" if "torch" in facts.versions else ""),
)
