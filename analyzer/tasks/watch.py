"""How far a sweep is whose jobs run in other processes: told from the files that they write."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from analyzer.capture.points import PointStore
from analyzer.errors import TraceError
from analyzer.progress import Reporter
from analyzer.schema.sweep import JOBS, MANIFEST_FILE, PointRecord
from analyzer.trace.records import read_job, read_manifest

_PERIOD_S = 5.0


@dataclass
class Watch:
    """Says on stderr how many jobs of the sweep in ``directory`` have ended, whenever there are more."""

    directory: Path
    store: PointStore
    resume: bool
    reporter: Reporter
    _over: threading.Event = field(default_factory=threading.Event)
    _ended: set[int] = field(default_factory=set)

    def start(self) -> None:
        """Watch until ``stop`` or the end of this process."""
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """Say nothing any more."""
        self._over.set()

    def _run(self) -> None:
        try:
            manifest = read_manifest(self.directory / MANIFEST_FILE)
            while not self._over.wait(_PERIOD_S):
                if self.look(len(manifest.jobs), manifest.created_utc):
                    self.reporter.say(f"{len(self._ended)} of {len(manifest.jobs)} jobs have ended")
        except (OSError, TraceError):
            return  # the report says what is wrong with the files

    def look(self, jobs: int, started_utc: str) -> int:
        """Return how many more of ``jobs`` jobs have ended since the last look."""
        more = {n for n in range(jobs) if n not in self._ended and self._has_ended(n, started_utc)}
        self._ended |= more
        return len(more)

    def _has_ended(self, number: int, started_utc: str) -> bool:
        try:
            job = read_job(self.directory / JOBS / f"{number}.json")
            records = [self.store.read(key) for key in job.keys]
        except (OSError, TraceError):
            return False
        if job.error:
            return True
        known = [r for r in records if r is not None and (r.created_utc >= started_utc or self._settled(r))]
        return bool(records) and len(known) == len(records)

    def _settled(self, record: PointRecord) -> bool:
        return self.resume and self.store.is_settled(record)
