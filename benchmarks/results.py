"""The results file: what was measured where, kept as JSON so that some of it can be measured again and the page rebuilt."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.process import Execution

FORMAT_VERSION = 1
# The folders of an absolute path; its last part stays.
FOLDERS = re.compile(r"(?<![\w/.])/(?:[^\s/'\":,()]+/)+")


@dataclass(frozen=True, slots=True)
class Size:
    """A trace: how many copies of the source, and what an independent sum over the source says of it."""

    copies: int
    events: int
    raw_bytes: int
    file_bytes: int
    kernels: int
    kernel_us: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """All executions of one contender on one trace."""

    contender: str
    copies: int
    executions: tuple[Execution, ...]

    @property
    def failure(self) -> str:
        """Why the contender failed, empty where it did not."""
        return next((execution.failure for execution in self.executions if execution.failure), "")


@dataclass(slots=True)
class Results:
    """Everything the page shows. ``absent`` gives for a contender that did not run the reason."""

    source: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    sizes: dict[int, Size] = field(default_factory=dict)
    measurements: dict[tuple[str, int], Measurement] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def add(self, measurement: Measurement) -> None:
        """Take up ``measurement`` in place of an older one of the same contender and trace."""
        clean = tuple(replace(run, last_error=strip_folders(run.last_error)) for run in measurement.executions)
        key = measurement.contender, measurement.copies
        self.measurements[key] = replace(measurement, executions=clean)


def strip_folders(text: str) -> str:
    """Return ``text`` with every path in it cut to its last part."""
    return FOLDERS.sub("", text)


def read_results(path: Path) -> Results:
    """Return the results kept at ``path``; empty ones where there is no such file.

    Raises:
        ValueError: The file is of another format.
    """
    if not path.exists():
        return Results()
    data = json.loads(path.read_text(encoding="utf-8"))
    if data.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"{path.name}: format {data.get('format_version')}, not {FORMAT_VERSION}")
    results = Results(data["source"], data["machine"], data["versions"], absent=data["absent"])
    results.sizes = {size["copies"]: Size(**size) for size in data["sizes"]}
    for entry in data["measurements"]:
        results.add(Measurement(entry["contender"], entry["copies"], tuple(Execution(**run) for run in entry["executions"])))
    return results


def write_results(results: Results, path: Path) -> None:
    """Write ``results`` to ``path``."""
    data = {
        "format_version": FORMAT_VERSION,
        "source": results.source,
        "machine": results.machine,
        "versions": results.versions,
        "sizes": [asdict(results.sizes[copies]) for copies in sorted(results.sizes)],
        "measurements": [asdict(results.measurements[key]) for key in sorted(results.measurements)],
        "absent": results.absent,
    }
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
