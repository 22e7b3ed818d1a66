"""From a YAML file to a GPU's sheet: checked, so that a wrong one gives one line that names file, key and expectation.

Nothing in a file is evaluated.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta

from analyzer.errors import ConfigError
from analyzer.hardware.sheet import DTYPES, UNITS, Figure, GpuSheet

MAX_BYTES = 2**20
_MAX_DEPTH = 20
_SEE = "docs/hardware.md shows a complete sheet"
_COUNTED = {"SM", "CU", "XCD", "devices", "partitions", "registers", "warps", "blocks", "threads"}

_Text = Annotated[str, Meta(min_length=1, max_length=1000)]


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    value: Annotated[float, Meta(gt=0, lt=1e9)]
    unit: _Text
    source: _Text | Annotated[tuple[_Text, ...], Meta(min_length=1)]
    remark: str = ""


_Figures = msgspec.defstruct("_Figures", [(name, _Entry | None, None) for name in UNITS], forbid_unknown_fields=True)
_Rates = msgspec.defstruct("_Rates", [(name, _Entry | None, None) for name in DTYPES], forbid_unknown_fields=True)
_Peaks = msgspec.defstruct(
    "_Peaks", [(name, _Rates | None, None) for name in ("vector", "matrix", "matrix_attainable")], forbid_unknown_fields=True
)


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: _Text
    vendor: _Text
    architecture: _Text
    figures: _Figures  # type: ignore[valid-type]
    peaks: _Peaks | None = None  # type: ignore[valid-type]
    chip: str = ""
    compute_capability: Annotated[str, Meta(pattern=r"^\d{1,3}\.\d{1,3}$")] | None = None
    dram_type: str = ""
    device_names: tuple[_Text, ...] = ()
    device_names_source: _Text | tuple[_Text, ...] = ()
    sources: dict[str, _Text] = {}
    notes: tuple[str, ...] = ()


def read_sheet(path: Path) -> GpuSheet:
    """Return the sheet in the user's file ``path``.

    Raises:
        ConfigError: no such file, or it says something a sheet cannot say; the message names file, key and expectation.
    """
    if not path.is_file():
        raise ConfigError(f"gpu_spec={path} is {'no file' if path.exists() else 'missing'}", f"name a YAML file; {_SEE}")
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", f"name a YAML file that can be read; {_SEE}") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: over 1 MiB, expected a short YAML file", _SEE)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, byte {error.start} is none", _SEE) from error
    return parse_sheet(text, path.stem, str(path), own=True)


def parse_sheet(text: str, key: str, where: str, *, own: bool = False) -> GpuSheet:
    """Return the sheet that the YAML in ``text`` describes; ``where`` names it in errors.

    Raises:
        ConfigError: no YAML, an unknown or missing key, a value of another type or unit, or out of its range.
    """
    data = _load(text, where, untrusted=own)
    try:
        document = msgspec.convert(data, _Document, strict=True)
    except msgspec.ValidationError as error:
        raise _explain(str(error), where) from error
    return GpuSheet(
        key=key,
        name=document.name,
        vendor=document.vendor,
        architecture=document.architecture,
        chip=document.chip,
        compute_capability=document.compute_capability,
        dram_type=document.dram_type,
        device_names=document.device_names,
        figures=_figures(document, where),
        notes=document.notes,
        own=own,
    )


def _load(text: str, where: str, *, untrusted: bool) -> Any:
    # libyaml is ten times as fast; wheels carry it, a build from source may not
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if untrusted:
            _screen(text, loader, where)
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError(f"{where}: {place}no YAML: {getattr(error, 'problem', None) or error}", _SEE) from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # the constructors of YAML's own types fail so on values that only look like a date, a number or a truth value
        raise ConfigError(f"{where}: a value of a type that no sheet has: {error}", _SEE) from error


def _screen(text: str, loader: Any, where: str) -> None:
    """Refuse what the loader would take without a word, or not survive: libyaml overflows the stack on deep nesting.

    Events come without recursion. A key that stands twice is a slip of the hand, of which the loader keeps the last.
    """
    frames: list[_Frame] = []
    for event in yaml.parse(text, Loader=loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{where}: line {line}: aliases (*name) are not taken", _SEE)
        if isinstance(event, yaml.CollectionEndEvent):
            frames.pop()
        elif isinstance(event, yaml.NodeEvent):
            scalar = event.value if isinstance(event, yaml.ScalarEvent) else None
            if frames and frames[-1].repeats(scalar):
                raise ConfigError(f"{where}: line {line}: {scalar!r} stands twice", _SEE)
            if isinstance(event, yaml.CollectionStartEvent):
                frames.append(_Frame(isinstance(event, yaml.MappingStartEvent)))
        if len(frames) > _MAX_DEPTH:
            raise ConfigError(f"{where}: line {line}: nested over {_MAX_DEPTH} deep, a sheet needs four levels", _SEE)


class _Frame:
    """A mapping or a list that is being read."""

    def __init__(self, is_mapping: bool) -> None:
        self._is_mapping = self._key_next = is_mapping
        self._keys: set[str] = set()

    def repeats(self, value: str | None) -> bool:
        """Take the next node, ``value`` where it is a scalar, and tell whether it is a key for the second time."""
        is_key, self._key_next = self._key_next, self._is_mapping and not self._key_next
        if not is_key or value is None:
            return False
        repeated = value in self._keys
        self._keys.add(value)
        return repeated


def _figures(document: _Document, where: str) -> dict[str, Figure]:
    """Return figures and peaks under one flat name each, units checked and sources spelled out."""
    entries: dict[str, tuple[_Entry, tuple[str, ...]]] = {}
    for name, units in UNITS.items():
        if entry := getattr(document.figures, name):
            entries[name] = (entry, units)
    for kind in ("vector", "matrix", "matrix_attainable"):
        rates = getattr(document.peaks, kind, None)
        for dtype in DTYPES:
            if entry := getattr(rates, dtype, None):
                entries[f"{kind}.{dtype}"] = (entry, ("TFLOP/s",))
    for name, (entry, units) in entries.items():
        place = f"{'peaks' if '.' in name else 'figures'}.{name}"
        if entry.unit not in units:
            raise ConfigError(f"{where}: {place}.unit: expected {' or '.join(units)}, not {entry.unit!r}", _SEE)
        if entry.unit in _COUNTED and entry.value != int(entry.value):
            raise ConfigError(f"{where}: {place}.value: expected a whole number, not {entry.value}", _SEE)
    return {name: Figure(e.value, e.unit, _source(e, document.sources)) for name, (e, _) in entries.items()}


def _source(entry: _Entry, sources: dict[str, str]) -> str:
    names = (entry.source,) if isinstance(entry.source, str) else entry.source
    text = " + ".join(sources.get(name, name) for name in names)
    return f"{text} ({entry.remark})" if entry.remark else text


# --- errors ------------------------------------------------------------------------------------------------------------

_WORDS = {
    "`float`": "a number", "`int`": "a whole number", "`str`": "text", "`object`": "a mapping", "`array`": "a list",
    "`bool`": "true or false", "`null`": "nothing",
}  # fmt: skip


def _explain(problem: str, where: str) -> ConfigError:
    """Return one line for what msgspec says: file, key, expectation."""
    what, _, path = problem.partition(" - at ")
    key = path.rpartition("$")[2].strip("`.")
    if found := re.search(r"unknown field `(.*)`", what):
        within = key.split(".")
        known = list(UNITS) if within[-1] == "figures" else list(DTYPES) if len(within) == 2 and within[0] == "peaks" else []
        known = known or [*_Document.__struct_fields__, "vector", "matrix", "matrix_attainable"]
        near = difflib.get_close_matches(found.group(1), known, n=3)
        line = f"{where}: {key + ': ' if key else ''}unknown key {found.group(1)!r}"
        return ConfigError(line, f"nearest: {', '.join(near)}" if near else _SEE)
    if found := re.search(r"missing required field `(.*)`", what):
        return ConfigError(f"{where}: {key + ': ' if key else ''}{found.group(1)!r} is missing", _SEE)
    for word, plain in _WORDS.items():
        what = what.replace(word, plain)
    what = what.replace("Expected", "expected").replace(" | ", " or ").replace(", got ", ", not ")
    return ConfigError(f"{where}: {key or 'the file'}: {what}", _SEE)
