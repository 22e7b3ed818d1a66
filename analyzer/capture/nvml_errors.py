"""What NVML's return codes mean: words for every one, and whether it is worth asking again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND, TIMEOUT = 3, 4, 13, 10

PROFILING_HINT = (
    "the driver may keep performance monitoring for administrators: run as root, in a container with --cap-add=SYS_ADMIN, "
    "or load the driver with NVreg_RestrictProfilingToAdminUsers=0"
)
"""What lets a user read GPM, as NVIDIA says of profiling (developer.nvidia.com/ERR_NVGPUCTRPERM) and of the container of
dcgm-exporter (NVIDIA/dcgm-exporter, pull request 427). From documentation, not tried on a GPU."""


class Outlook(StrEnum):
    """What is to be expected after a failure."""

    PASSING = "passing"
    """It may work the next time."""
    PERMANENT = "permanent"
    """This question will never be answered here; others may be."""
    GONE = "gone"
    """The device, the driver or NVML itself is gone; nothing will be answered."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A question that NVML did not answer: its code (None where the error is none of NVML's), why in words, the outlook."""

    code: int | None
    words: str
    outlook: Outlook


_PASSING, _PERMANENT, _GONE = Outlook.PASSING, Outlook.PERMANENT, Outlook.GONE

# The enumeration nvmlReturn_t of nvml.h (CUDA 13.5) and nvidia-ml-py 13.615. The outlook is our reading of its comments.
_CODES: dict[int, tuple[str, Outlook]] = {
    1: ("NVML is not initialised; the driver may have been restarted", _GONE),
    2: ("the driver rejects the query as invalid", _PERMANENT),
    3: ("not supported by this device", _PERMANENT),
    4: ("no permission", _PERMANENT),
    5: ("NVML was initialised twice", _PERMANENT),
    6: ("not found", _PERMANENT),
    7: ("the driver needs a larger buffer than this NVML library gave", _PERMANENT),
    8: ("the device's external power cables are not attached properly", _GONE),
    9: ("the NVIDIA driver is not loaded", _GONE),
    10: ("timed out", _PASSING),
    11: ("the kernel module has a problem with the interrupts of a GPU", _PASSING),
    12: ("no NVIDIA driver library (libnvidia-ml) here", _GONE),
    13: ("the driver is too old for this query", _PERMANENT),
    14: ("the infoROM of the device is corrupted", _PERMANENT),
    15: ("the device is lost: it fell off the bus or cannot be reached", _GONE),
    16: ("the device needs a reset", _GONE),
    17: ("the operating system or its container blocks the query", _PERMANENT),
    18: ("driver and NVML library do not match; the driver may have been updated without a reboot", _GONE),
    19: ("the device is in use by something that excludes the query", _PASSING),
    20: ("NVML ran out of memory", _PASSING),
    21: ("no data yet", _PASSING),
    22: ("not available on a vGPU while ECC is on", _PERMANENT),
    23: ("the device is out of resources for this query", _PASSING),
    24: ("the frequency is not supported", _PERMANENT),
    25: ("driver and NVML library disagree on the version of the query", _PERMANENT),
    26: ("the driver no longer answers this query (deprecated)", _PERMANENT),
    27: ("the device is not ready", _PASSING),
    28: ("no such GPU", _GONE),
    29: ("the device is in a state that does not allow the query", _PASSING),
    30: ("the kind of reset is not supported", _PERMANENT),
    999: ("unknown NVML error", _PASSING),
}


def of_code(code: int, *, mig: bool = False) -> Failure:
    """Return what return code ``code`` means; ``mig``: it was asked of a MIG instance, or of a GPU that is divided into such.

    A code that is not in the list is new: it may pass.
    """
    words, outlook = _CODES.get(code, (f"NVML error {code}, which is newer than this list", _PASSING))
    if mig and code == NOT_SUPPORTED:
        words = "not supported with MIG (the GPU is divided into instances)"
    return Failure(code, words, outlook)


def of_error(error: BaseException, *, mig: bool = False) -> Failure:
    """Return what an exception of ``pynvml`` means.

    One that carries no code of NVML is permanent: a ``pynvml`` without the function (AttributeError), a structure that does
    not fit (ctypes), text that cannot be decoded.
    """
    code = getattr(error, "value", None)
    if isinstance(code, int):
        return of_code(code, mig=mig)
    if isinstance(error, AttributeError):
        return Failure(None, "the installed nvidia-ml-py does not know this query", Outlook.PERMANENT)
    return Failure(None, f"{type(error).__name__} in nvidia-ml-py", Outlook.PERMANENT)
