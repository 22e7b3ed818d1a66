"""NVML played back from a file: it stands for the module ``pynvml`` and answers only what the file has.

A recording (``recordings/*.json``, one per scenario) is a list of calls in their order: ``call``, ``args``, ``at_ms`` since the
first call, and ``returns`` or ``error`` (a code of ``nvmlReturn_t``); ``took_ms`` is how long the call blocks. A call is answered
by the last one of the same name and arguments whose time has come; a call that is not there is refused. Answers are made of
pynvml's own ctypes structures. The recordings are written by hand, in the shape of the call sequences of nvml.h, DCGM and
nvitop; none was recorded on hardware.
"""

from __future__ import annotations

import ctypes
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml

RECORDINGS = Path(__file__).parent / "recordings"
SCENARIOS = sorted(path.stem for path in RECORDINGS.glob("*.json"))
_CLOSER_THAN_ALLOWED_MS = 100.0
_BEFORE_INIT = {"nvmlInit", "nvmlShutdown"}


class RefusedError(BaseException):
    """A call that is not in the recording. No Exception: the reader survives those, and a test must not."""


class Replay:
    """One recording as the module ``pynvml``. ``clock`` returns seconds, ``wait`` lets them pass.

    ``calls`` are those made so far; ``held`` the GPM buffers that are not freed, ``initialised`` how often NVML is open.
    """

    def __init__(
        self, name: str, clock: Callable[[], float] = time.monotonic, wait: Callable[[float], None] = time.sleep
    ) -> None:
        document = json.loads((RECORDINGS / f"{name}.json").read_text())
        self.uuid: str | None = document["uuid"]
        self._clock, self._wait = clock, wait
        self._began: float | None = None
        self._recorded: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for entry in document["calls"]:
            self._recorded.setdefault((entry["call"], json.dumps(entry["args"])), []).append(entry)
        self.calls: list[str] = []
        self.held: dict[int, Any] = {}
        self.initialised = 0
        self._made = 0
        self._sampled_ms: dict[int, float] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("nvml") and callable(getattr(pynvml, name, None)):
            return lambda *args: self._call(name, *args)
        return getattr(pynvml, name)  # constants, structures and NVMLError are pynvml's own

    def _call(self, name: str, *args: Any) -> Any:
        if self._began is None:
            self._began = self._clock()
        self.calls.append(name)
        if not self.initialised and name not in _BEFORE_INIT:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        entry = self._entry(name, json.dumps([self._plain(arg) for arg in args]))
        if entry.get("took_ms"):
            self._wait(entry["took_ms"] / 1e3)
        if "error" in entry:
            raise pynvml.NVMLError(entry["error"])
        special = getattr(self, f"_after_{name}", None)
        return special(entry, *args) if special else _built(entry["returns"])

    def _entry(self, name: str, args: str) -> dict[str, Any]:
        entries = self._recorded.get((name, args))
        if not entries:
            raise RefusedError(f"{name}{args} is not in the recording")
        now_ms = self._now_ms()
        return next((e for e in reversed(entries) if e["at_ms"] <= now_ms), entries[0])

    def _now_ms(self) -> float:
        assert self._began is not None
        return (self._clock() - self._began) * 1e3

    def _plain(self, value: Any) -> Any:
        """Return an argument as a recording has it; buffers and handles by the name of their kind."""
        if isinstance(value, pynvml.c_nvmlGpmSample_t):
            if _address(value) not in self.held:
                raise RefusedError("a GPM buffer that was not allocated, or is freed")
            return "sample"
        if isinstance(value, pynvml.c_nvmlDevice_t):
            return f"device{_address(value)}"
        if isinstance(value, pynvml.c_nvmlGpmMetricsGet_t):
            return {"version": value.version, "metrics": [m.metricId for m in value.metrics[: value.numMetrics]]}
        return list(value) if isinstance(value, (list, tuple)) else value

    def _after_nvmlInit(self, entry: dict[str, Any]) -> None:  # noqa: N802
        self.initialised += 1

    def _after_nvmlShutdown(self, entry: dict[str, Any]) -> None:  # noqa: N802
        self.initialised -= 1

    def _after_nvmlGpmSampleAlloc(self, entry: dict[str, Any]) -> Any:  # noqa: N802
        self._made += 1
        sample = ctypes.cast(0x1000 * self._made, pynvml.c_nvmlGpmSample_t)
        self.held[_address(sample)] = sample
        return sample

    def _after_nvmlGpmSampleFree(self, entry: dict[str, Any], sample: Any) -> None:  # noqa: N802
        del self.held[_address(sample)]

    def _after_nvmlGpmSampleGet(self, entry: dict[str, Any], device: Any, sample: Any) -> Any:  # noqa: N802
        self._sampled_ms[_address(sample)] = self._now_ms()
        return sample

    def _after_nvmlGpmMetricsGet(self, entry: dict[str, Any], query: Any) -> Any:  # noqa: N802
        first, second = (self._sampled_ms[_address(s)] for s in (query.sample1, query.sample2))
        if second - first < _CLOSER_THAN_ALLOWED_MS:
            raise RefusedError(f"two GPM samples {second - first:.1f} ms apart, the second one first or too close")
        for metric in query.metrics[: query.numMetrics]:
            metric.nvmlReturn, value = entry["returns"][str(metric.metricId)]
            metric.value = math.nan if value is None else value
        return query


def _address(pointer: Any) -> int:
    return int(ctypes.cast(pointer, ctypes.c_void_p).value or 0)


def _built(answer: Any) -> Any:
    """Return a recorded answer as pynvml gives it: ``device`` a handle, ``struct`` a structure, ``fields`` an array of values."""
    if not isinstance(answer, dict):
        return answer
    if "device" in answer:
        return ctypes.cast(answer["device"], pynvml.c_nvmlDevice_t)
    if "c_uint" in answer:
        return ctypes.c_uint(answer["c_uint"])
    if "struct" in answer:
        return getattr(pynvml, answer["struct"])(**answer["values"])
    values = (pynvml.c_nvmlFieldValue_t * len(answer["fields"]))()
    for value, recorded in zip(values, answer["fields"], strict=True):
        value.fieldId, value.nvmlReturn = recorded["fieldId"], recorded["nvmlReturn"]
        value.valueType = recorded.get("valueType", 1)
        value.value.uiVal = recorded.get("uiVal", 0)
    return values
