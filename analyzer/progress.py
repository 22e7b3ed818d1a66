"""Progress on stderr: one line per stage with its time; a live bar only on a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@dataclass
class Stage:
    """A stage in progress: ``advance`` moves its bar, ``note`` is printed when it ends."""

    total: int | None
    note: str = ""
    _bar: Progress | None = None
    _task: object = None

    def advance(self, steps: int = 1) -> None:
        """Move the bar on by ``steps``."""
        if self._bar is not None:
            self._bar.advance(self._task, steps)  # type: ignore[arg-type]


@dataclass
class Reporter:
    """Prints stages to stderr. ``current`` names the stage, for the line that an interruption prints."""

    quiet: bool = False
    current: str = "start"
    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    @contextmanager
    def stage(self, title: str, total: int | None = None, *, quiet_end: bool = False) -> Iterator[Stage]:
        """Show ``title`` while the block runs, then one line with the elapsed time unless ``quiet_end``."""
        self.current = title
        stage = Stage(total)
        started = time.monotonic()
        live = self.console.is_terminal and not self.quiet
        if live:
            columns = [TextColumn("  {task.description}"), BarColumn(), TimeElapsedColumn()]
            if total is not None:
                columns.insert(2, MofNCompleteColumn())
            bar = Progress(*columns, console=self.console, transient=True)
            stage._bar, stage._task = bar, bar.add_task(title, total=total)
            with bar:
                yield stage
        else:
            yield stage
        if not (self.quiet or quiet_end):
            elapsed = time.monotonic() - started
            note = f"  {stage.note}" if stage.note else ""
            self.console.print(f"  {title}: {elapsed:.1f} s{note}", markup=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print one line."""
        if not self.quiet:
            self.console.print(text, markup=False, soft_wrap=True)
