"""What goes to stdout, and errors as one line whatever they were."""

from __future__ import annotations

import os
import sys

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from analyzer.cli.failures import explain
from analyzer.errors import AnalyzerError

_LIMITS_HINT = "a path that is too long, a full disk or too little memory stops a run"


def show(text: str) -> None:
    """Print ``text``; a reader that has gone is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader, `head` say, has seen enough; the files are written
        silence()


def silence() -> None:
    """Send what is still to be printed nowhere, so that nothing is said of a reader that has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def as_error(error: Exception) -> AnalyzerError:
    """Return one line and a hint for ``error``."""
    if isinstance(error, AnalyzerError):
        return error
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return explain(error)
    if isinstance(error, FileNotFoundError):
        what = f"there is no file {error.filename}" if error.filename else "the working directory is gone"
        return AnalyzerError(what, "it was removed meanwhile, or a setting names another place")
    if isinstance(error, OSError):
        return AnalyzerError(error.strerror or str(error), _LIMITS_HINT)
    if isinstance(error, MemoryError):
        return AnalyzerError("out of memory", _LIMITS_HINT)
    first = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {first[0][:300]}" if first else type(error).__name__
    return AnalyzerError(f"unforeseen: {what}", "HYDRA_FULL_ERROR=1 shows where it happened")
