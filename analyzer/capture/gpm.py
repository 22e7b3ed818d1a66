"""GPM, the activity counters that Hopper and newer give through NVML as averages over at least 100 ms.

The order of calls, the 100 ms and the numbers of the metrics follow nvml.h (CUDA 13.5) and nvidia-ml-py; on hardware it has not
been tried.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from analyzer.capture.nvml_errors import NO_PERMISSION, PROFILING_HINT, Failure, Outlook, of_code, of_error

PERIOD_NS = 100_000_000  # nvml.h: two samples closer than this give invalid values
METRICS = {
    2: "gpm_sm_util_pct",
    3: "gpm_sm_occupancy_pct",
    5: "gpm_tensor_pct",
    10: "gpm_dram_pct",
    12: "gpm_fp32_pct",
    13: "gpm_fp16_pct",
}
"""The metrics asked for, by NVML's number, with their column in SAMPLES."""

NO_GPM = "the device has no GPM (Hopper and newer have it)"
MIG = "the GPU is divided into MIG instances, and GPM is read of whole GPUs only"
NO_NUMBERS = "no reading gave a number"
TOO_SHORT = "the recording was too short for two samples 100 ms apart"


class GpmReader:
    """Reads GPM of one device. ``available`` and ``reason`` say whether it could; no method raises an error of NVML.

    ``available`` is that GPM can be had, and, once a reading was tried, that one gave numbers. ``reason`` also names metrics
    that are missing while others are there. ``lost``: why the device or its driver is gone, empty
    while they are there.
    """

    def __init__(self, api: Any, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._api, self._clock = api, clock
        self._handle: Any = None
        self._samples: list[Any] = []
        self._last_ns: int | None = None
        self._opened = False
        self._tried = self._numbers = 0
        self._notes: dict[str, str] = {}
        self._why_not = "NVML is not available"
        self.lost = ""

    @property
    def available(self) -> bool:
        """Return whether GPM is there: it can be opened, and if it was read, it gave numbers."""
        return self._opened and (self._numbers > 0 or (self._tried == 0 and not self._why_not))

    @property
    def reason(self) -> str:
        """Return why GPM is not there or stopped, and what of it is missing; empty where nothing is."""
        parts = [self._why_not] if self._why_not else []
        if self._tried and not self._numbers and not self._why_not:
            parts.append(NO_NUMBERS)
        parts += [f"{name}: {why}" for name, why in sorted(self._notes.items())]
        return "; ".join(parts)

    def open(self, handle: Any, *, mig: bool = False) -> None:
        """Ask whether the device has GPM and reserve its two buffers. ``mig``: it is divided into instances, or is one.

        An instance would have to be read through its GPU with ``nvmlGpmMigSampleGet``, which this does not do.
        """
        if mig:
            self._why_not = MIG
            return
        api = self._api
        try:
            if not api.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
                self._why_not = NO_GPM
                return
            for _ in range(2):
                self._samples.append(api.nvmlGpmSampleAlloc())
        except Exception as error:  # noqa: BLE001 - a pynvml that lacks the function, or a library that breaks its contract
            self._why_not = _words(of_error(error))
            self.close()
            return
        self._handle, self._opened, self._why_not = handle, True, ""

    def sample(self) -> dict[str, float]:
        """Return the averages since the last sample; empty when that is less than 100 ms ago, or GPM is not there."""
        now_ns = self._clock()  # here and not where a row begins: calls between the two may take long
        if self._handle is None or (self._last_ns is not None and now_ns - self._last_ns < PERIOD_NS):
            return {}
        older, newer = self._samples
        try:
            self._api.nvmlGpmSampleGet(self._handle, newer)
        except Exception as error:  # noqa: BLE001 - see open
            self._failed(error)
            return {}
        # The time after the call: from here to the next one's begin are 100 ms at least, however long both took.
        first, self._last_ns = self._last_ns is None, self._clock()
        self._samples = [newer, older]
        if first:
            return {}
        self._tried += 1
        try:
            return self._metrics(older, newer)
        except Exception as error:  # noqa: BLE001 - see open
            self._failed(error)
            return {}

    def _metrics(self, older: Any, newer: Any) -> dict[str, float]:
        api = self._api
        query = api.c_nvmlGpmMetricsGet_t()
        query.version = api.NVML_GPM_METRICS_GET_VERSION
        query.numMetrics = len(METRICS)
        query.sample1, query.sample2 = older, newer
        for position, number in enumerate(METRICS):
            query.metrics[position].metricId = number
        api.nvmlGpmMetricsGet(query)
        row: dict[str, float] = {}
        for position, column in enumerate(METRICS.values()):
            metric = query.metrics[position]
            if metric.nvmlReturn != 0:
                self._notes[column] = _words(of_code(int(metric.nvmlReturn)))
            elif not math.isfinite(metric.value):
                self._notes[column] = "no number in some readings"
            else:
                row[column] = float(metric.value)
        self._numbers += bool(row)
        return row

    def _failed(self, error: BaseException) -> None:
        """Remember why a reading failed, and stop unless the next one may work."""
        found = of_error(error)
        self._tried = max(self._tried, 1)
        if found.outlook is Outlook.PASSING:
            self._notes["some readings"] = found.words
            return
        self._why_not = _words(found)
        if self._numbers:  # a permission can be withdrawn while GPM is read (NVIDIA/DCGM, issue 214)
            self._why_not += "; no GPM from there on"
        self.lost = found.words if found.outlook is Outlook.GONE else ""
        self._handle = None

    def close(self) -> None:
        """Free the buffers."""
        if self._opened and self._tried == 0 and not self._why_not:
            self._why_not = TOO_SHORT
        for sample in self._samples:
            try:
                self._api.nvmlGpmSampleFree(sample)
            except Exception as error:  # noqa: BLE001 - see open
                self._notes.setdefault("freeing the buffers", of_error(error).words)
        self._samples, self._handle = [], None


def _words(found: Failure) -> str:
    return f"{found.words}; {PROFILING_HINT}" if found.code == NO_PERMISSION else found.words
