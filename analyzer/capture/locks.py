"""Locks between processes: files that a process holds with flock, so that they are free again when it is gone."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from analyzer.errors import ConfigError
from analyzer.trace.rundir import safe_name


def private_directory() -> Path:
    """Return a directory of this user below the system's temporary one, for locks that hold on this machine.

    Raises:
        ConfigError: it cannot be made, or belongs to somebody else.
    """
    path = Path(tempfile.gettempdir()) / f"analyzer-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        ours = path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.getuid()
    except OSError as error:
        raise ConfigError(f"cannot write to the temporary directory: {error.strerror}", "set TMPDIR to another one") from error
    if not ours:
        raise ConfigError(f"{path.name} in the temporary directory is not ours", "set TMPDIR to another one")
    return path


def device_lock(name: str) -> Path:
    """Return the file to hold while a point is measured on the device ``name`` (``cpu``, or the UUID of a GPU)."""
    return private_directory() / f"{safe_name(name)}.lock"


@contextmanager
def held(path: Path, waiting: Callable[[], None]) -> Iterator[tuple[int, ...]]:
    """Hold the lock ``path`` during the block; call ``waiting`` once if another process has it.

    Yields the descriptor that holds it: a process that inherits it holds the lock too, for as long as it lives. Yields none
    on a file system without locks. The file is removed when the block ends without an error. After an error it stays: a process
    that inherited the descriptor may still hold the lock, and who comes next has to meet it. An empty file is no harm.

    Raises:
        ConfigError: ``path`` cannot be written.
    """
    handle = _open(path)
    try:
        locked = _take(handle, waiting)
        while locked and not _is_current(handle, path):  # who had it before removed it
            os.close(handle)
            handle = _open(path)
            locked = _take(handle, lambda: None)
        yield (handle,) if locked else ()
        path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot write to {path.parent}: {error.strerror}", "choose another directory") from error


def _take(handle: int, waiting: Callable[[], None]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:  # some network file systems have no locks: then two jobs may measure the same point, which is no harm
        return False
    return True


def _is_current(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except OSError:
        return False
    mine = os.fstat(handle)
    return (there.st_ino, there.st_dev) == (mine.st_ino, mine.st_dev)
