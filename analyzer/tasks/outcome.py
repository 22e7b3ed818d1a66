"""What a task ends with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task ends with: its last lines, its JSON, what it could not measure, and the exit code it asks for."""

    lines: list[str]
    document: dict[str, Any]
    not_measured: tuple[str, ...] = field(default=())
    exit_code: int = 0
