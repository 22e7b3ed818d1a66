"""A stand-in for pynvml: the functions that the reader calls, driven by a script of failures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml


class FakeNvml:
    """``failures`` maps a function's name to an NVML code, or to (code, from which call on)."""

    NVMLError = pynvml.NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVML_PCIE_UTIL_TX_BYTES, NVML_PCIE_UTIL_RX_BYTES = 0, 1
    NVML_GPM_METRICS_GET_VERSION = pynvml.NVML_GPM_METRICS_GET_VERSION

    def __init__(self, gpm: bool = True, failures: dict[str, Any] | None = None) -> None:
        self.gpm, self.failures = gpm, failures or {}
        self.calls: list[str] = []
        self.uuids: list[str] = []
        self.allocated = 0
        self.initialised = 0

    def _call(self, name: str) -> None:
        self.calls.append(name)
        failure = self.failures.get(name)
        code, start = failure if isinstance(failure, tuple) else (failure, 1)
        if code is not None and self.calls.count(name) >= start:
            raise pynvml.NVMLError(code)

    def nvmlInit(self) -> None:  # noqa: N802
        self._call("nvmlInit")
        self.initialised += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self._call("nvmlShutdown")
        self.initialised -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        self.uuids.append(uuid)
        self._call("nvmlDeviceGetHandleByUUID")
        return "handle"

    def nvmlGpmSampleAlloc(self) -> list[int]:  # noqa: N802
        self._call("nvmlGpmSampleAlloc")
        self.allocated += 1
        return [self.allocated]

    def nvmlGpmSampleFree(self, sample: Any) -> None:  # noqa: N802
        self._call("nvmlGpmSampleFree")
        self.allocated -= 1

    def nvmlGpmQueryDeviceSupport(self, handle: Any) -> SimpleNamespace:  # noqa: N802
        self._call("nvmlGpmQueryDeviceSupport")
        return SimpleNamespace(isSupportedDevice=int(self.gpm))

    def nvmlGpmSampleGet(self, handle: Any, sample: Any) -> Any:  # noqa: N802
        self._call("nvmlGpmSampleGet")
        return sample

    def c_nvmlGpmMetricsGet_t(self) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(metrics=[SimpleNamespace(metricId=0, nvmlReturn=0, value=0.0) for _ in range(16)])

    def nvmlGpmMetricsGet(self, query: Any) -> Any:  # noqa: N802
        self._call("nvmlGpmMetricsGet")
        for metric in query.metrics[: query.numMetrics]:
            metric.value = float("nan") if metric.metricId == 13 else 10.0 * metric.metricId
        return query

    def nvmlDeviceGetFieldValues(self, handle: Any, fields: list[int]) -> list[SimpleNamespace]:  # noqa: N802
        self._call("nvmlDeviceGetFieldValues")
        code = self.failures.get("fields", 0)
        return [SimpleNamespace(nvmlReturn=code, valueType=1, value=SimpleNamespace(uiVal=f * 1000)) for f in fields]

    def __getattr__(self, name: str) -> Any:
        answers = {
            "nvmlDeviceGetClockInfo": 1410,
            "nvmlDeviceGetCurrentClocksEventReasons": 4,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 8,
            "nvmlDeviceGetPowerUsage": 300_000,
            "nvmlDeviceGetTotalEnergyConsumption": 5_000,
            "nvmlDeviceGetTemperature": 55,
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=1 << 30),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97, memory=40),
            "nvmlDeviceGetPcieThroughput": 12,
        }
        if name not in answers:
            raise AttributeError(name)

        def answer(*_: Any) -> Any:
            self._call(name)
            return answers[name]

        return answer
