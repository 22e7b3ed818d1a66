"""The command that records a run again, as far as it may be shown to be pasted into a shell.

``run.json`` comes from somebody else as traces do, so the command that it names is taken for nothing but a command of this
program: anything else could run whatever its author liked on the reader's machine.
"""

from __future__ import annotations

import re
import sys

from analyzer.schema.run import RunFacts
from analyzer.schema.settings import ATTENTION, COMPILE, INPUTS, LAYOUTS

PROGRAM = "analyzer"
PLACEHOLDER = "PACKAGE.MODULE:FUNCTION"
"""What stands for a model that is not named, or may not be."""

DTYPES = frozenset(("float32", "tf32", "bfloat16", "float16"))

_MAX_WORDS, _MAX_LENGTH = 100, 500
_WORD = re.compile(
    r"(?P<key>[+~]{0,2}[a-z][a-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)*)=(?P<value>[A-Za-z0-9_.,:/@%+=\[\]{} -]*|<path>)"
)
"""A setting; ``<path>`` stands for a place that the recording kept to itself."""

_SETTINGS = frozenset((
    "task", "vit", "cnn", "model", "experiment", "device", "batch_size", "image_size", "dtype", "layout", "attention",
    "compile", "autocast", "input", "cudnn_benchmark", "iterations", "traced_steps", "stacks", "repeats", "warmup_max_s",
    "threads", "seed", "sample_period_s", "calibrate", "traces", "reports", "out", "gpu_spec", "counters", "resume",
    "price", "max_expansion", "json", "strict",
))  # fmt: skip
_FACTORY = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_][\w.]*", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)?", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _./-]{0,59}")
_GROUPS = frozenset(("vit", "cnn", "model", "experiment"))
_FAMILIES = ("vit", "cnn")


def recording_command(facts: RunFacts) -> tuple[str, ...]:
    """Return the words of the command that records the run of ``facts`` again.

    It is the recorded one where that is surely a command of this program, else one made of the settings in force. What
    settings cannot name is ``PLACEHOLDER``.
    """
    return facts.command if is_own(facts.command) else _from_settings(facts)


def is_own(command: tuple[str, ...]) -> bool:
    """Tell whether ``command`` is one of this program, of known settings and without anything that a shell could act on."""
    return bool(command) and len(command) <= _MAX_WORDS and command[0] == PROGRAM and all(map(_is_setting, command[1:]))


def _is_setting(word: str) -> bool:
    found = _WORD.fullmatch(word) if len(word) <= _MAX_LENGTH else None
    if found is None:
        return False
    first, *others = found["key"].lstrip("+~").split(".")
    value = found["value"]
    known = first in _SETTINGS and "_target_" not in word and (first != "task" or value == "profile")
    if first in _GROUPS and not others:
        known = known and not any(text in value for text in ("{", ":", ".."))  # a mapping could hold a factory
    return known and ("factory" not in others or value == "null" or is_model_factory(value))


def is_model_factory(value: str) -> bool:
    """Tell whether ``value`` is a function of a package that can make a model: Python's own and torch.hub run anything."""
    if not _FACTORY.fullmatch(value):
        return False
    return value.split(".", 1)[0].split(":", 1)[0] not in sys.stdlib_module_names and not value.startswith("torch.hub")


def _from_settings(facts: RunFacts) -> tuple[str, ...]:
    model, s = facts.model, facts.settings
    family = model.family if model.family in _FAMILIES else _FAMILIES[0]
    named = model.factory is None and _NAME.fullmatch(model.name) is not None
    factory = model.factory if model.factory and is_model_factory(model.factory) else PLACEHOLDER
    words = [
        PROGRAM,
        f"{family}.name={model.name}" if named else f"{family}.factory={factory}",
        *([f"{family}.label={model.label}"] if _LABEL.fullmatch(model.label) else []),
        f"{_FAMILIES[1 - _FAMILIES.index(family)]}=none",
        f"device={facts.device.type}",
        f"batch_size={s.batch_size}",
        *([f"image_size={s.image_size}"] if s.image_size else []),
    ]
    layout = (s.memory_format or "").split(" ")[0]
    chosen = {
        "dtype": (s.dtype, DTYPES),
        "layout": (layout, LAYOUTS[1:]),
        "attention": (s.attention, ATTENTION[1:]),
        "compile": (s.compile, COMPILE[1:]),
        "input": (s.input, INPUTS[1:]),
        "autocast": ("true" if s.autocast else "", ("true",)),
        "cudnn_benchmark": ("true" if s.cudnn_benchmark else "", ("true",)),
    }
    words += [f"{name}={value}" for name, (value, known) in chosen.items() if value in known]
    words += [f"threads={s.threads}"] * (s.threads is not None and facts.device.type == "cpu")
    return (*words, f"traced_steps={s.traced_steps}", f"iterations={s.iterations}", f"repeats={s.repeats}")
