"""From the name that a trace or a run gives a GPU to its sheet, or to the reason why there is none."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from analyzer.hardware.sheet import GpuSheet
from analyzer.hardware.sheet_file import parse_sheet
from analyzer.schema.run import DeviceFacts

_MEMORY_TOLERANCE = 0.12
"""What drivers keep for themselves and error correction takes: up to 8 % in the traces and logs seen."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """A device's sheet, or ``reason``: one line without a final full stop that says why there is none."""

    sheet: GpuSheet | None
    reason: str = ""


def look_up(device: DeviceFacts, own: GpuSheet | None = None) -> Lookup:
    """Return the sheet of ``device``.

    ``own``, the user's, wins for the names it lists; one that lists none serves every GPU that the database does not know.
    The multiprocessor count and the memory have the last word: another count is another product or a part (MIG) of one.
    """
    if device.type != "cuda":
        return Lookup(None, "a CPU has no datasheet; its ceilings are measured")
    if own is not None and _plain(device.name) in map(_plain, own.device_names):
        found = _fitting(device, [own])
        if found.sheet:
            return found
        known = _in_database(device)
        return known if known.sheet else found
    known = _in_database(device)
    if known.sheet or own is None:
        return known
    if not own.device_names:
        return _fitting(device, [own])
    listed = ", ".join(repr(name) for name in own.device_names[:3])
    return Lookup(None, f"{known.reason.partition(';')[0]}, and the gpu_spec sheet is of {listed}")


def find_sheet(device: DeviceFacts) -> GpuSheet | None:
    """Return the datasheet of the device that a trace or a run names, None where there is none."""
    return look_up(device).sheet


def sheets() -> dict[str, GpuSheet]:
    """Return every GPU of the database by its key. Products of several devices stand whole."""
    return {key: _sheet(key) for key in _texts()}


def nearest(key: str, known: list[str]) -> list[str]:
    """Return up to four of ``known`` that are spelled most like ``key``; all of them where none is."""
    alike = [name for name in known if key and (name.startswith(key) or key in name)]
    return (alike + [n for n in difflib.get_close_matches(key, known, n=3, cutoff=0.3) if n not in alike])[:4] or known


def sheet_of(key: str) -> GpuSheet:
    """Return the GPU of the database with this key; reads no other file.

    Raises:
        KeyError: there is none.
    """
    if key not in _texts():
        raise KeyError(key)
    return _sheet(key)


def _in_database(device: DeviceFacts) -> Lookup:
    name = _plain(device.name)
    # parsing all files takes longer than the rest of a lookup: read only those that have the name somewhere
    mentioned = [_sheet(key) for key, text in _texts().items() if name in text]
    named = [sheet.share() for sheet in mentioned if name in map(_plain, sheet.device_names)]
    if not named:
        return Lookup(None, f"no datasheet for '{device.name}' in the database; pass gpu_spec=FILE.yaml (docs/hardware.md)")
    return _fitting(device, named)


def _fitting(device: DeviceFacts, named: list[GpuSheet]) -> Lookup:
    fitting = [sheet for sheet in named if not _misfit(device, sheet)]
    if len(fitting) == 1:
        return Lookup(fitting[0])
    if fitting:
        names = " or ".join(sheet.name for sheet in fitting)
        return Lookup(None, f"'{device.name}' can be {names}, and its memory, which would tell, is not recorded")
    misfits = dict.fromkeys(_misfit(device, sheet) for sheet in named)
    where = "of the gpu_spec sheet" if named[0].own else "of the database"
    products = " nor the ".join(f"{sheet.name} {where} ({_expected(device, sheet)})" for sheet in named)
    return Lookup(None, f"'{device.name}' with {next(iter(misfits))} is not the {products}")


def _misfit(device: DeviceFacts, sheet: GpuSheet) -> str:
    """Return what of ``device`` is not the sheet's; nothing where all that is known agrees."""
    if device.sm_count and sheet.sm_count and device.sm_count != sheet.sm_count:
        return f"{device.sm_count} multiprocessors"
    if device.memory_bytes and sheet.dram_gb:
        # vendors print GiB as GB: a 40 GB A100 has 42.5e9 bytes, a 141 GB H200 150e9
        nominal = (sheet.dram_gb * 1e9, sheet.dram_gb * 2**30)
        if not any(abs(device.memory_bytes / bytes_ - 1) <= _MEMORY_TOLERANCE for bytes_ in nominal):
            return f"{device.memory_bytes / 1e9:.1f} GB of memory"
    return ""


def _expected(device: DeviceFacts, sheet: GpuSheet) -> str:
    return f"{sheet.dram_gb:g} GB" if "memory" in _misfit(device, sheet) else f"{sheet.sm_count}"


def _plain(name: str) -> str:
    """Return ``name`` as old and new drivers and libraries agree on it: they differ in case and in the vendor's name."""
    return " ".join(name.casefold().split()).removeprefix("nvidia ")


@lru_cache(maxsize=1)
def _texts() -> dict[str, str]:
    folder = resources.files("analyzer.hardware") / "gpus"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    return {f.name.removesuffix(".yaml"): f.read_text(encoding="utf-8").casefold() for f in files}


@lru_cache(maxsize=64)
def _sheet(key: str) -> GpuSheet:
    file = resources.files("analyzer.hardware") / "gpus" / f"{key}.yaml"
    return parse_sheet(file.read_text(encoding="utf-8"), key, file.name)
