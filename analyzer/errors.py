"""Errors that a person can act on: one line that says what is wrong, one hint that says what to do."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_UNAVAILABLE = 3
EXIT_GATE = 4


class AnalyzerError(Exception):
    """A mistake or a limit that the user can do something about.

    ``message`` is one line without a final full stop; ``hint`` is a command, a setting or a fact that helps.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        # a file's name may hold a line break, and what a file holds may reach a message
        self.message, self.hint = (" ".join(text.split()) for text in (message, hint))
        super().__init__(self.message)


class ConfigError(AnalyzerError):
    """A setting that cannot be meant or met."""


class UnsupportedError(ConfigError):
    """Settings that are meant well and that the model, the device or a library cannot do."""


class TraceError(AnalyzerError):
    """A file that is damaged, or is no trace or run directory."""


class DeviceError(AnalyzerError):
    """The device is missing, or failed or ran out of memory during a run."""


class OutOfMemoryError(DeviceError):
    """The host or the device has too little memory for this."""
