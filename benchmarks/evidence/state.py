"""What became of each step, kept in ``state.json``, which is replaced whole after each of them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT_VERSION = 1
STATE_FILE = "state.json"
MAX_TRIES = 2
"""A step that failed, or was interrupted, is tried once more."""
STATUSES = ("done", "skipped", "failed", "interrupted", "running")


@dataclass(slots=True)
class Outcome:
    """What became of a step: one of STATUSES, why, how often it was begun, how many seconds the last time took."""

    status: str
    reason: str = ""
    tries: int = 0
    seconds: float = 0.0
    began_utc: str = ""
    pid: int = 0
    born: float = 0.0

    @property
    def is_left(self) -> bool:
        """Tell whether it was tried as often as it may be, in vain."""
        return self.status in ("failed", "interrupted") and self.tries >= MAX_TRIES


class StateError(Exception):
    """A state that cannot be continued."""


@dataclass(slots=True)
class State:
    """The state of a folder of evidence. ``device`` is the name of the device that all of it is of."""

    plan: str
    device: str
    calls: int = 0
    steps: dict[str, Outcome] = field(default_factory=dict)

    def status(self, name: str) -> str:
        """Return the status of a step, empty for one that was never looked at."""
        return self.steps[name].status if name in self.steps else ""


def read_state(folder: Path) -> State | None:
    """Return the state kept in ``folder``, None without one.

    Raises:
        StateError: it is damaged or of another format.
    """
    path = folder / STATE_FILE
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if data["format_version"] != FORMAT_VERSION:
            raise StateError(
                f"{path.name} has format {data['format_version']}, not {FORMAT_VERSION}; name another folder with out="
            )
        steps = {str(name): Outcome(**entry) for name, entry in data["steps"].items()}
        return State(str(data["plan"]), str(data["device"]), int(data["calls"]), steps)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise StateError(f"{path.name} is damaged ({type(error).__name__}); name another folder with out=") from error


def write_state(state: State, folder: Path) -> None:
    """Replace ``state.json``: whoever ends this process, the old or the new one is whole."""
    content = {"format_version": FORMAT_VERSION, **asdict(state)}
    write_json(content, folder / STATE_FILE)


def write_json(content: object, path: Path) -> None:
    """Write ``content`` to ``path`` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
