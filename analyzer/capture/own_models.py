"""What a sweep has to know of one's own model without loading torch: the files it is made from, and the batch it ran with."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

import msgspec

from analyzer.errors import TraceError
from analyzer.schema.settings import ModelChoice
from analyzer.schema.sweep import PointSetting
from analyzer.trace.rundir import RUN_FILE, read_facts

_DIGITS = 16


def files_of(choice: ModelChoice) -> dict[str, str]:
    """Return what tells one version of a model from the next: ``factory`` and ``weights``, as far as it has them.

    ``factory`` is a hash of the file that holds the function, left out where no file is found; ``weights`` is made of the name,
    the size and the time of the file of weights, which may be too large to be read for this.
    """
    found = {"factory": _factory(choice.factory or ""), "weights": _weights(choice.weights or "")}
    return {name: text for name, text in found.items() if text}


def _factory(factory: str) -> str:
    module = factory.partition(":")[0].replace(".", "/")
    if not re.fullmatch(r"[\w/]+", module):
        return ""
    for root in (".", *sys.path):
        for path in (Path(root) / f"{module}.py", Path(root) / module / "__init__.py"):
            if path.is_file():
                return hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGITS]
    return ""


def _weights(file: str) -> str:
    path = Path(file)
    if not file or not path.is_file():
        return ""
    about = path.stat()
    return hashlib.sha256(f"{path.name} {about.st_size} {about.st_mtime_ns}".encode()).hexdigest()[:_DIGITS]


def as_run(setting: PointSetting, runs: Path, run: str | None) -> PointSetting:
    """Return ``setting`` with the batch and image size that ``run``, a directory in ``runs``, really had.

    A factory may return an example input, whose sizes are known only once it was called.
    """
    if setting.factory is None or run is None:
        return setting
    try:
        had = read_facts(runs / run / RUN_FILE).settings
    except (TraceError, OSError):
        return setting
    return msgspec.structs.replace(setting, batch_size=had.batch_size, image_size=had.image_size or setting.image_size)
