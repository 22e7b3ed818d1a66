"""Shared fixtures: where the public traces are, and small traces written by hand."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
PUBLIC_TRACES = SHARED / "traces-public"


# Two workers share the cores: a thread that waits for one that does not run spins, and a model takes many times as long.
# Before torch is imported, and for every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    """Let Ctrl-C reach the tests and what they start: a shell that started them in the background has it ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's cache of ceilings out of the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")


@pytest.fixture
def public_traces() -> Path:
    if not PUBLIC_TRACES.is_dir():
        pytest.skip("the public traces are not here: they lie in ../shared and are not part of the repository")
    return PUBLIC_TRACES
