"""Repeats in fresh processes: another memory layout, another order of initialisation, the same measurement."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

from analyzer import errors
from analyzer.capture import processes
from analyzer.capture.failures import MEMORY_HINT
from analyzer.capture.presets import Resolved
from analyzer.errors import DeviceError, OutOfMemoryError
from analyzer.schema.settings import CaptureSettings, ModelChoice


def run_repeat(
    choice: ModelChoice, settings: CaptureSettings, resolved: Resolved, repeat: int, scratch: Path
) -> tuple[list[dict[str, Any]], str]:
    """Measure warm-up and untraced latency in a process of its own; return its rows and a note on its warm-up.

    Raises:
        AnalyzerError: what the process reported, or that it died.
    """
    path = scratch / f"repeat-{repeat}.raw.json"
    request = {
        "choice": dataclasses.asdict(choice),
        "settings": fixed(settings, resolved),
        "repeat": repeat,
        "path": str(path.absolute()),
    }
    kills = processes.memory_kills()
    with tempfile.TemporaryFile(dir=scratch) as errors_file:
        process = processes.start("analyzer.capture.worker", errors_file.fileno())
        try:
            processes.send(process, request)
            process.wait()
        finally:
            processes.stop(process, grace_s=0.0)
        try:
            answer = json.loads(path.read_text())
        except (OSError, json.JSONDecodeError):
            errors_file.seek(0)
            raise _died(repeat, process.returncode, errors_file.read(), processes.memory_kills() - kills) from None
        finally:
            path.unlink(missing_ok=True)
    if "error" in answer:
        kind = getattr(errors, answer["type"], DeviceError)
        raise kind(f"repeat {repeat}: {answer['error']}", answer["hint"])
    return answer["rows"], answer["note"]


def fixed(settings: CaptureSettings, resolved: Resolved) -> dict[str, Any]:
    """Return the settings with the presets in force here, in plain JSON values, for a process that runs the model once more."""
    found = dataclasses.asdict(settings) | {
        "device": str(resolved.device),
        "batch_size": resolved.batch_size,
        "image_size": resolved.image_size,
        "dtype": resolved.dtype,
        "repeats": 1,
        "calibrate": "off",
        "counters": "none",
    }
    # iterations stays as it was: where it is the preset, the time that a GPU pass lasts at least is part of it
    return {name: str(value) if isinstance(value, Path) else value for name, value in found.items()}


def _died(repeat: int, status: int, output: bytes, kills: int) -> DeviceError:
    out_of_memory, text = processes.killing(status, kills)
    if text:
        kind = OutOfMemoryError if out_of_memory else DeviceError
        return kind(f"repeat {repeat}: {text}", MEMORY_HINT)
    lines = output.decode(errors="replace").strip().splitlines()
    last = f": {lines[-1][:200]}" if lines else ""
    return DeviceError(f"repeat {repeat} ended with status {status}{last}", "run again with repeats=1")
