"""GPM, the activity counters that Hopper and newer give through NVML as averages over at least 100 ms."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

PERIOD_NS = 100_000_000  # nvml.h: two samples closer than this give invalid values
_METRICS = {
    2: "gpm_sm_util_pct",
    3: "gpm_sm_occupancy_pct",
    5: "gpm_tensor_pct",
    10: "gpm_dram_pct",
    12: "gpm_fp32_pct",
    13: "gpm_fp16_pct",
}
_LOST = {15, 16}


class GpmReader:
    """Reads GPM of one device. ``available`` and ``reason`` say whether it could; no method raises an NVML error."""

    def __init__(self, api: Any, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._api, self._clock = api, clock
        self._handle: Any = None
        self._samples: list[Any] = []
        self._last_ns: int | None = None
        self._read_once = False
        self._say: Callable[[BaseException], str] = str
        self.available = False
        self.lost = False
        self.reason = "NVML is not available"

    def open(self, handle: Any, say: Callable[[BaseException], str]) -> None:
        """Ask whether the device has GPM and reserve its two buffers; ``say`` turns NVML errors into words."""
        self._say = say
        api = self._api
        try:
            if not api.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
                self.reason = "the device has no GPM (Hopper and newer have it)"
                return
            for _ in range(2):
                self._samples.append(api.nvmlGpmSampleAlloc())
        except api.NVMLError as error:
            self.reason = say(error)
            self.close()
            return
        self._handle, self.available, self.reason = handle, True, ""

    def sample(self) -> dict[str, float]:
        """Return the averages since the last sample; empty when that is less than 100 ms ago, or GPM is not there."""
        now_ns = self._clock()  # here and not where a row begins: calls between the two may take long
        if self._handle is None or (self._last_ns is not None and now_ns - self._last_ns < PERIOD_NS):
            return {}
        api = self._api
        older, newer = self._samples
        try:
            api.nvmlGpmSampleGet(self._handle, newer)
            first, self._last_ns = self._last_ns is None, now_ns
            self._samples = [newer, older]
            return {} if first else self._metrics(older, newer)
        except api.NVMLError as error:
            self._stop(error)
            return {}

    def _metrics(self, older: Any, newer: Any) -> dict[str, float]:
        api = self._api
        query = api.c_nvmlGpmMetricsGet_t()
        query.version = api.NVML_GPM_METRICS_GET_VERSION
        query.numMetrics = len(_METRICS)
        query.sample1, query.sample2 = older, newer
        for position, number in enumerate(_METRICS):
            query.metrics[position].metricId = number
        api.nvmlGpmMetricsGet(query)
        self._read_once = True
        row: dict[str, float] = {}
        for position, column in enumerate(_METRICS.values()):
            metric = query.metrics[position]
            if metric.nvmlReturn == 0 and math.isfinite(metric.value):
                row[column] = float(metric.value)
        return row

    def _stop(self, error: BaseException) -> None:
        self.reason = self._say(error)
        self.lost = getattr(error, "value", None) in _LOST
        # A refusal on the first read (no permission, a vGPU guest) means that nothing was ever there.
        self.available = self.available and self._read_once
        self._handle = None

    def close(self) -> None:
        """Free the buffers."""
        for sample in self._samples:
            try:
                self._api.nvmlGpmSampleFree(sample)
            except self._api.NVMLError as error:
                self.reason = self.reason or self._say(error)
        self._samples, self._handle = [], None
