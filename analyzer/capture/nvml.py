"""NVML: one device read as rows of the table SAMPLES, every error turned into a named reason. Imports no torch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from analyzer.capture.gpm import GpmReader

_REASONS = {
    1: "NVML is not initialised",
    3: "not supported by this device",
    4: "no permission",
    6: "device not found",
    9: "the NVIDIA driver is not loaded",
    12: "no NVIDIA driver library (libnvidia-ml) here",
    13: "the driver is too old for this query",
    15: "the device is lost",
    16: "the device needs a reset",
    17: "the operating system blocks the query",
    18: "driver and NVML library do not match",
    24: "timed out",
    999: "unknown NVML error",
}
_PERMANENT = {1, 3, 4, 13, 17}  # asking again does not help
_LOST = {15, 16}
_POWER_AVERAGE, _POWER_INSTANT = 185, 186
_VALUE_FIELDS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal"}


def load() -> Any:
    """Return the module ``pynvml``.

    Raises:
        ImportError: nvidia-ml-py is not installed.
    """
    import pynvml

    return pynvml


def reason(error: BaseException) -> str:
    """Return what an NVML error means, in words."""
    code = getattr(error, "value", None)
    return _REASONS.get(code, f"NVML error {code}") if isinstance(code, int) else f"{type(error).__name__}: {error}"


class NvmlReader:
    """Reads one device. ``api`` is ``pynvml`` or something with its functions.

    After ``open``: ``available`` and ``reason`` for NVML, ``gpm`` for GPM. No method raises an NVML error.
    """

    def __init__(self, api: Any, uuid: str | None, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._api, self._uuid = api, uuid
        self._handle: Any = None
        self._dead: set[str] = set()
        self._power_fallback = False
        self.notes: dict[str, str] = {}
        self.available = False
        self.lost = ""
        self.failure = "not opened"
        self.gpm = GpmReader(api, clock)

    def open(self) -> bool:
        """Initialise NVML and find the device; return whether it is there, else ``failure`` says why not."""
        api = self._api
        try:
            api.nvmlInit()
        except api.NVMLError as error:
            self.failure = reason(error)
            return False
        try:
            self._handle = self._find()
        except api.NVMLError as error:
            self.failure = f"the device was not found by its UUID: {reason(error)}"
            self._shutdown()
            return False
        self.available, self.failure = True, ""
        self.gpm.open(self._handle, reason)
        return True

    def probe(self) -> str:
        """Return why NVML cannot be had here; empty when it can."""
        try:
            self._api.nvmlInit()
        except self._api.NVMLError as error:
            return reason(error)
        self._shutdown()
        return ""

    def _find(self) -> Any:
        if self._uuid is None:
            return self._api.nvmlDeviceGetHandleByIndex(0)
        if self._uuid.startswith(("GPU-", "MIG-")):
            return self._api.nvmlDeviceGetHandleByUUID(self._uuid)
        try:
            return self._api.nvmlDeviceGetHandleByUUID(f"GPU-{self._uuid}")
        except self._api.NVMLError:
            return self._api.nvmlDeviceGetHandleByUUID(f"MIG-{self._uuid}")

    def sample(self) -> dict[str, float]:
        """Return the columns that could be read now."""
        if self._handle is None:
            return {}
        api, handle = self._api, self._handle
        row: dict[str, float] = self.gpm.sample()  # first: what follows may block, and GPM needs its 100 ms
        if self.gpm.lost:
            self._lose(self.gpm.reason)
            return row
        self._read(row, "sm_clock_mhz", lambda: api.nvmlDeviceGetClockInfo(handle, api.NVML_CLOCK_SM))
        self._read(row, "memory_clock_mhz", lambda: api.nvmlDeviceGetClockInfo(handle, api.NVML_CLOCK_MEM))
        self._read(row, "clock_event_reasons", lambda: self._event_reasons(handle))
        self._power(row)
        self._read(row, "energy_j", lambda: api.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3)
        self._read(row, "temperature_c", lambda: api.nvmlDeviceGetTemperature(handle, api.NVML_TEMPERATURE_GPU))
        self._read(row, "gpu_memory_bytes", lambda: api.nvmlDeviceGetMemoryInfo(handle).used)
        self._utilisation(row)
        for column, counter in (
            ("pcie_tx_kbps", api.NVML_PCIE_UTIL_TX_BYTES),
            ("pcie_rx_kbps", api.NVML_PCIE_UTIL_RX_BYTES),
        ):
            self._read(row, column, lambda counter=counter: api.nvmlDeviceGetPcieThroughput(handle, counter))  # type: ignore[misc]
        return row

    def _event_reasons(self, handle: Any) -> float:
        try:
            return float(self._api.nvmlDeviceGetCurrentClocksEventReasons(handle))
        except self._api.NVMLError as error:
            if getattr(error, "value", None) != 13:
                raise
            return float(self._api.nvmlDeviceGetCurrentClocksThrottleReasons(handle))  # the name before driver 535

    def _utilisation(self, row: dict[str, float]) -> None:
        rates: list[Any] = []
        self._read(row, "gpu_util_pct", lambda: self._rates(rates).gpu)
        if rates:
            row["memory_util_pct"] = float(rates[0].memory)

    def _rates(self, into: list[Any]) -> Any:
        into.append(self._api.nvmlDeviceGetUtilizationRates(self._handle))
        return into[0]

    def _power(self, row: dict[str, float]) -> None:
        if not self._power_fallback:
            fields = ((_POWER_AVERAGE, "power_average_w"), (_POWER_INSTANT, "power_instant_w"))
            got: list[Any] = []
            self._guard("power", lambda: got.append(self._api.nvmlDeviceGetFieldValues(self._handle, [f for f, _ in fields])))
            for position, (_, column) in enumerate(fields) if got else ():
                value = got[0][position]
                if value.nvmlReturn == 0:
                    row[column] = float(getattr(value.value, _VALUE_FIELDS.get(value.valueType, "uiVal"))) / 1e3
                else:
                    self.notes[column] = _REASONS.get(value.nvmlReturn, f"NVML error {value.nvmlReturn}")
            self._power_fallback = "power" in self._dead or "power_average_w" in self.notes
        if "power_average_w" not in row and self._power_fallback:
            self.notes["power_average_w"] = "from nvmlDeviceGetPowerUsage; on some devices that is instantaneous"
            self._read(row, "power_average_w", lambda: self._api.nvmlDeviceGetPowerUsage(self._handle) / 1e3)

    def _read(self, row: dict[str, float], column: str, query: Callable[[], float]) -> None:
        def store() -> None:
            value = float(query())
            if math.isfinite(value):
                row[column] = value

        self._guard(column, store)

    def _guard(self, name: str, action: Callable[[], None]) -> None:
        if self._handle is None or name in self._dead:
            return
        try:
            action()
        except self._api.NVMLError as error:
            code = getattr(error, "value", None)
            if code in _LOST:
                self._lose(reason(error))
                return
            self.notes[name] = reason(error)
            if code in _PERMANENT:
                self._dead.add(name)

    def _lose(self, why: str) -> None:
        self.lost, self._handle = why, None

    def summary(self) -> str:
        """Return why quantities are missing, empty when none is."""
        if not self.available:
            return self.failure
        parts = [f"{why}; no NVML samples from there on" for why in [self.lost] if why]
        return "; ".join(parts + [f"{name}: {why}" for name, why in sorted(self.notes.items())])

    def close(self) -> None:
        """Free what is held; never raises an NVML error."""
        self.gpm.close()
        if self.available:
            self._shutdown()
        self._handle = None

    def _shutdown(self) -> None:
        try:
            self._api.nvmlShutdown()
        except self._api.NVMLError as error:
            self.notes["shutdown"] = reason(error)


def driver_version() -> str | None:
    """Return the NVIDIA driver's version; None without a driver."""
    return _ask(lambda api: str(api.nvmlSystemGetDriverVersion()))


def power_limits(uuid: str | None) -> dict[str, float]:
    """Return the enforced (``limit``) and the default power limit in W, as far as NVML tells them."""
    found: dict[str, float] = {}

    def read(api: Any) -> None:
        reader = NvmlReader(api, uuid)
        handle = reader._find()
        for name, query in (
            ("limit", api.nvmlDeviceGetEnforcedPowerLimit),
            ("default", api.nvmlDeviceGetPowerManagementDefaultLimit),
        ):
            _ignore(api, lambda name=name, query=query: found.update({name: query(handle) / 1e3}))  # type: ignore[misc]

    _ask(read)
    return found


def _ignore(api: Any, action: Callable[[], object]) -> None:
    try:
        action()
    except api.NVMLError:
        return


def _ask(query: Callable[[Any], Any]) -> Any:
    try:
        api = load()
    except ImportError:
        return None
    try:
        api.nvmlInit()
    except api.NVMLError:
        return None
    try:
        return query(api)
    except api.NVMLError:
        return None
    finally:
        _ignore(api, api.nvmlShutdown)
