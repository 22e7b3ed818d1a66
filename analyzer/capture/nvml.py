"""NVML: one device read as rows of the table SAMPLES, every error turned into a named reason. Imports no torch.

The calls follow nvml.h (CUDA 13.5) and nvidia-ml-py; on hardware they have not been tried.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from analyzer.capture.gpm import PERIOD_NS, GpmReader
from analyzer.capture.nvml_errors import FUNCTION_NOT_FOUND, Failure, Outlook, of_code, of_error

_POWER_AVERAGE, _POWER_INSTANT = 185, 186
_AVERAGE_FIELD = "field power_average_w"
INSTALL = "pip install nvidia-ml-py"
"""What installs the module ``pynvml``; the package called pynvml is another one."""
NO_PACKAGE = f"nvidia-ml-py is not installed: {INSTALL}"
_VALUE_FIELDS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal"}


def load() -> Any:
    """Return the module ``pynvml``.

    Raises:
        ImportError: nvidia-ml-py is not installed.
    """
    import pynvml

    return pynvml


class NvmlReader:
    """Reads one device. ``api`` is ``pynvml`` or something with its functions.

    After ``open``: ``available`` and ``failure`` for NVML, ``gpm`` for GPM. No method raises an error of NVML, nor one of a
    ``pynvml`` that does not fit the driver: telemetry never ends a run.
    """

    def __init__(self, api: Any, uuid: str | None, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._api, self._uuid = api, uuid
        self._handle: Any = None
        self._dead: set[str] = set()
        self._power_fallback = False
        self._mig = False
        self.notes: dict[str, str] = {}
        self.available = False
        self.lost = ""
        self.failure = "not opened"
        self.gpm = GpmReader(api, clock)

    def open(self) -> bool:
        """Initialise NVML and find the device; return whether it is there, else ``failure`` says why not."""
        try:
            self._api.nvmlInit()
        except Exception as error:  # noqa: BLE001 - not only NVMLError: a library may lack functions or break its contract
            self.failure = of_error(error).words
            return False
        try:
            handle, self.failure = self._find()
        except Exception as error:  # noqa: BLE001 - see above
            handle, self.failure = None, f"the device was not found by its UUID: {of_error(error).words}"
        if handle is None:
            self._shutdown()
            return False
        self._handle, self.available = handle, True
        self._mig = self._in_instances(handle)
        if self._mig:
            self.notes["MIG"] = "the GPU is divided into instances; not all is given for one, and what is given may be of all"
        self.gpm.open(handle, mig=self._mig)
        return True

    def probe(self) -> str:
        """Return why NVML cannot be had here; empty when it can."""
        try:
            self._api.nvmlInit()
        except Exception as error:  # noqa: BLE001 - see open
            return of_error(error).words
        self._shutdown()
        return ""

    def _find(self) -> tuple[Any, str]:
        """Return the handle of the device, or None and why it cannot be told which one it is."""
        api = self._api
        if self._uuid is None:
            # Without a UUID only a single GPU can be the one that the model runs on; numbers differ from those of CUDA.
            devices = int(api.nvmlDeviceGetCount())
            if devices == 1:
                return api.nvmlDeviceGetHandleByIndex(0), ""
            return None, f"PyTorch does not tell the UUID of the device, and there are {devices} GPUs to choose from"
        if self._uuid.startswith(("GPU-", "MIG-")):
            return api.nvmlDeviceGetHandleByUUID(self._uuid), ""
        try:
            return api.nvmlDeviceGetHandleByUUID(f"GPU-{self._uuid}"), ""
        except api.NVMLError as error:
            if of_error(error).outlook is Outlook.GONE:
                raise
            return api.nvmlDeviceGetHandleByUUID(f"MIG-{self._uuid}"), ""

    def _in_instances(self, handle: Any) -> bool:
        """Tell whether the device is a MIG instance, or a GPU that is divided into such. Drivers before MIG have neither."""
        api = self._api
        for ask in (lambda: api.nvmlDeviceIsMigDeviceHandle(handle), lambda: api.nvmlDeviceGetMigMode(handle)[0]):
            try:
                answer = ask()
            except Exception:  # noqa: BLE001 - see open; a device without MIG answers "not supported"
                continue
            if int(getattr(answer, "value", answer)):  # pynvml hands the first one on as it came, a c_uint
                return True
        return False

    def sample(self) -> dict[str, float]:
        """Return the columns that could be read now."""
        if self._handle is None:
            return {}
        api, handle = self._api, self._handle
        row: dict[str, float] = self.gpm.sample()  # first: what follows may block, and GPM needs its 100 ms
        if self.gpm.lost:
            self._lose(self.gpm.lost)
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
            if of_error(error).code != FUNCTION_NOT_FOUND:
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
            for value, (_, column) in zip(got[0], fields, strict=True) if got else ():
                self._field(row, column, value)
            self._power_fallback = bool({"power", _AVERAGE_FIELD} & self._dead)
        if "power_average_w" not in row and self._power_fallback:
            self._read(row, "power_average_w", lambda: self._api.nvmlDeviceGetPowerUsage(self._handle) / 1e3)
            if "power_average_w" in row:
                self.notes["power_average_w"] = "from nvmlDeviceGetPowerUsage; on some devices that is instantaneous"

    def _field(self, row: dict[str, float], column: str, value: Any) -> None:
        if value.nvmlReturn == 0:
            row[column] = float(getattr(value.value, _VALUE_FIELDS.get(value.valueType, "uiVal"))) / 1e3
            return
        self._note(column, of_code(int(value.nvmlReturn), mig=self._mig), key=f"field {column}")

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
        except Exception as error:  # noqa: BLE001 - see open
            self._note(name, of_error(error, mig=self._mig))

    def _note(self, name: str, found: Failure, key: str = "") -> None:
        """Remember why a quantity is missing; one that cannot be had is not asked for again, and without a device none is."""
        if found.outlook is Outlook.GONE:
            self._lose(found.words)
            return
        self.notes[name] = found.words if found.outlook is Outlook.PERMANENT else f"{found.words}, in some readings"
        if found.outlook is Outlook.PERMANENT:
            self._dead.add(key or name)

    def _lose(self, why: str) -> None:
        self.lost, self._handle = why, None

    def summary(self) -> str:
        """Return why quantities are missing, empty when none is; those with the same reason together."""
        if not self.available:
            return self.failure
        together: dict[str, list[str]] = {}
        for name, why in sorted(self.notes.items()):
            together.setdefault(why, []).append(name)
        parts = [f"{why}; no NVML samples from there on" for why in [self.lost] if why]
        return "; ".join(parts + [f"{', '.join(names)}: {why}" for why, names in together.items()])

    def close(self) -> None:
        """Free what is held; never raises an NVML error."""
        self.gpm.close()
        if self.available:
            self._shutdown()
        self._handle = None

    def _shutdown(self) -> None:
        try:
            self._api.nvmlShutdown()
        except Exception as error:  # noqa: BLE001 - see open
            self.notes["shutdown"] = of_error(error).words


def gpm_failure(uuid: str | None, wait: Callable[[float], None] = time.sleep) -> str:
    """Return why GPM of the device ``uuid`` cannot be read here, empty where it can: a reading was tried, which takes 0.1 s."""
    try:
        api = load()
    except ImportError:
        return NO_PACKAGE
    reader = NvmlReader(api, uuid)
    if not reader.open():
        return reader.failure
    if reader.gpm.available:
        reader.gpm.sample()
        wait(1.2 * PERIOD_NS / 1e9)
        reader.gpm.sample()
    found = "" if reader.gpm.available else reader.gpm.reason
    reader.close()
    return found


def driver_version() -> str | None:
    """Return the NVIDIA driver's version; None without a driver."""
    return _ask(lambda api: str(api.nvmlSystemGetDriverVersion()))


def power_limits(uuid: str | None) -> dict[str, float]:
    """Return the enforced (``limit``) and the default power limit in W, as far as NVML tells them."""
    found: dict[str, float] = {}

    def read(api: Any) -> None:
        handle, _ = NvmlReader(api, uuid)._find()
        if handle is None:
            return
        for name, query in (
            ("limit", api.nvmlDeviceGetEnforcedPowerLimit),
            ("default", api.nvmlDeviceGetPowerManagementDefaultLimit),
        ):
            _ignore(lambda name=name, query=query: found.update({name: query(handle) / 1e3}))  # type: ignore[misc]

    _ask(read)
    return found


def _ignore(action: Callable[[], object]) -> None:
    try:
        action()
    except Exception:  # noqa: BLE001 - see NvmlReader.open
        return


def _ask(query: Callable[[Any], Any]) -> Any:
    try:
        api = load()
        api.nvmlInit()
    except Exception:  # noqa: BLE001 - no nvidia-ml-py, no driver, or one that does not fit: the facts are left out
        return None
    try:
        return query(api)
    except Exception:  # noqa: BLE001 - see NvmlReader.open
        return None
    finally:
        _ignore(api.nvmlShutdown)
