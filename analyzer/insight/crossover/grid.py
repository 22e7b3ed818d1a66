"""The points of a sweep in order: which models, on which devices, under which settings, at which batch and image sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from analyzer.schema.evidence import Quantity
from analyzer.schema.sweep import Point, PointSetting, Sweep

_PRESETS = {"layout": "contiguous", "attention": "auto", "compile": "off"}


@dataclass(frozen=True, slots=True)
class Variant:
    """The settings that do not change what is computed: two models can be held to the same ones."""

    dtype: str
    layout: str
    attention: str
    compile: str
    threads: int | None
    seed: int
    autocast: bool = False
    input: str = "device"
    cudnn_benchmark: bool = False

    @property
    def but_attention(self) -> Variant:
        """Return the same with the preset of attention: what a ViT and a CNN can have in common."""
        return replace(self, attention=_PRESETS["attention"])


_PARTS = tuple(part.name for part in fields(Variant))


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the sweep. ``name`` tells it from the others of the sweep; ``number`` is its place among them."""

    number: int
    name: str
    family: str


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A point at its place. ``model`` and ``device`` are numbers."""

    point: Point
    model: int
    device: int
    batch: int
    size: int
    variant: Variant

    @property
    def latency_ms(self) -> Quantity | None:
        """Return the untraced latency of one batch, None for a point without a time."""
        figures = self.point.figures
        return figures.latency_ms if figures is not None and figures.latency_ms.value is not None else None

    @property
    def time_ms(self) -> float:
        """Return the median time of one batch in ms, infinite for a point without a time."""
        latency = self.latency_ms
        return latency.value if latency is not None and latency.value is not None else float("inf")


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """All points at their places; of several at the same one the newest with a time, without any the newest.

    ``varying``: names of the parts of a Variant that differ between points. ``repeated`` counts the points left out.
    """

    models: tuple[Model, ...]
    devices: tuple[str, ...]
    entries: tuple[Entry, ...]
    varying: frozenset[str]
    repeated: int

    def words(self, variant: Variant, family: str = "") -> str:
        """Return ``variant`` in words: the element type, what is not the preset, and what differs within the sweep."""
        parts = [f"{variant.dtype} by autocast" if variant.autocast else variant.dtype]
        parts += [variant.layout] if "layout" in self.varying or variant.layout != _PRESETS["layout"] else []
        if family != "cnn" and ("attention" in self.varying or variant.attention != _PRESETS["attention"]):
            parts.append(f"attention {variant.attention}")
        if "compile" in self.varying or variant.compile != _PRESETS["compile"]:
            parts.append("not compiled" if variant.compile == "off" else f"compiled ({variant.compile})")
        if "input" in self.varying or variant.input != "device":
            parts.append(f"input on the {variant.input}")
        if "cudnn_benchmark" in self.varying or variant.cudnn_benchmark:
            parts.append(f"cudnn.benchmark {'on' if variant.cudnn_benchmark else 'off'}")
        parts += [f"{variant.threads} threads"] if "threads" in self.varying and variant.threads else []
        parts += [f"seed {variant.seed}"] if "seed" in self.varying else []
        return ", ".join(parts)

    def shared_words(self, first: int, a: Variant, second: int, b: Variant) -> str:
        """Return the one setting that two models were held to in words: ``a`` of ``first``, ``b`` of ``second``."""
        family = self.models[first].family
        return self.words(a, family) if family != "cnn" else self.words(b, self.models[second].family)

    def settings_timed(self, model: int) -> frozenset[Variant]:
        """Return the settings that a model has a time under, the implementation of attention aside."""
        return frozenset(e.variant.but_attention for e in self.entries if e.model == model and e.latency_ms is not None)


def like_for_like(a: Variant, a_family: str, b: Variant, b_family: str) -> bool:
    """Tell whether two models ran under the same settings; where one is a CNN, attention is the other's own."""
    return a == b or ("cnn" in (a_family, b_family) and a.but_attention == b.but_attention)


def grid(sweep: Sweep) -> Grid:
    """Return the points of ``sweep`` at their places: ViTs before CNNs, else in the order in which they came."""
    names = _names([p.record.setting for p in sweep.points], _model_key, _model_name)
    order = sorted(names, key=lambda key: {"vit": 0, "cnn": 1}.get(key[1], 2))
    models = tuple(Model(n, names[key], key[1]) for n, key in enumerate(order))
    number = {key: n for n, key in enumerate(order)}
    devices = _names([p.record.device for p in sweep.points], _device_key, _device_name)
    device = {key: n for n, key in enumerate(devices)}
    kept: dict[Any, Entry] = {}
    for point in sweep.points:
        setting = point.record.setting
        entry = Entry(
            point,
            number[_model_key(setting)],
            device[_device_key(point.record.device)],
            setting.batch_size,
            setting.image_size,
            variant_of(setting),
        )
        place = (entry.device, entry.model, entry.batch, entry.size, entry.variant)
        if place not in kept or _is_better(entry, kept[place]):
            kept[place] = entry
    entries = sorted(kept.values(), key=lambda e: (e.device, e.batch, e.size, e.model))
    varying = _varying([e.variant for e in entries])
    return Grid(models, tuple(devices.values()), tuple(entries), varying, len(sweep.points) - len(entries))


def variant_of(setting: PointSetting) -> Variant:
    """Return the part of ``setting`` that does not say what is computed."""
    return Variant(**{name: getattr(setting, name) for name in _PARTS})


def _is_better(new: Entry, old: Entry) -> bool:
    """Tell whether ``new`` replaces ``old`` at the same place: one with a time does, else the newer one."""
    return _rank(new) > _rank(old)


def _rank(entry: Entry) -> tuple[bool, datetime, str, str]:
    """Return what orders points of one place; the names at its end keep the order of the arguments out of it."""
    record = entry.point.record
    try:
        made = datetime.fromisoformat(record.created_utc)
    except ValueError:
        made = datetime.min
    made = made if made.tzinfo else made.replace(tzinfo=UTC)
    return entry.latency_ms is not None, made, record.run or "", record.key


def _varying(variants: Iterable[Variant]) -> frozenset[str]:
    found = list(variants)
    return frozenset(name for name in _PARTS if len({getattr(v, name) for v in found}) > 1)


def _model_key(s: PointSetting) -> tuple[str, str, str, str]:
    return s.model, s.family, s.factory or "", repr(sorted(s.options.items(), key=lambda item: item[0]))


def _model_name(s: PointSetting, alone: bool) -> str:
    """Return the label, with the options where there are some; the name too where the label is another model's as well."""
    told = [f"{key}={value}" for key, value in sorted(s.options.items())]
    told = told if alone else [s.model, *told]
    return f"{s.label} ({', '.join(told)})" if told else s.label


def _device_key(device: Any) -> tuple[Any, ...]:
    return device.type, device.name, device.vendor, device.memory_bytes, device.sm_count, device.power_limit_w


def _device_name(device: Any, alone: bool) -> str:
    if alone:
        return str(device.name)
    facts = [f"{device.memory_bytes / 2**30:.0f} GiB"] if device.memory_bytes else []
    facts += [f"{device.sm_count} multiprocessors"] if device.sm_count else []
    facts += [f"{device.power_limit_w:.0f} W"] if device.power_limit_w else []
    return f"{device.name} ({', '.join(facts)})" if facts else str(device.name)


def _names(items: list[Any], key: Callable[[Any], Any], name: Callable[[Any, bool], str]) -> dict[Any, str]:
    """Return a name for each different key, in order; a name that would stand for two keys gets what tells them apart."""
    first = {key(item): item for item in reversed(items)}
    first = {found: first[found] for found in dict.fromkeys(map(key, items))}
    plain = {found: name(item, True) for found, item in first.items()}
    uses = Counter(plain.values())
    told = {found: text if uses[text] == 1 else name(first[found], False) for found, text in plain.items()}
    again = Counter(told.values())
    seen: Counter[str] = Counter()
    out = {}
    for found, text in told.items():
        seen[text] += 1
        out[found] = text if again[text] == 1 else f"{text} [{seen[text]}]"
    return out
