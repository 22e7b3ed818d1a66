"""A log directory for TensorBoard's profiler plugin, checked with the plugin's own parser.

The plugin (torch-tb-profiler, frozen upstream) knows launches by the category ``runtime``, which Kineto renamed to
``cuda_runtime`` and ``cuda_driver``; without that name it gives every operator a device time of zero. The copy written here
carries the old name.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from analyzer.errors import TraceError
from analyzer.trace.kineto import read_json
from analyzer.trace.rundir import open_run, safe_name

_LIST = "runs.json"
_TRACE = ".pt.trace.json.gz"
_LAUNCHES = {"cuda_runtime": "Runtime", "cuda_driver": "Runtime"}
# what the plugin reads at the top level; host names and paths stay behind
_KEPT = ("schemaVersion", "deviceProperties", "distributedInfo", "baseTimeNanoseconds", "with_stack", "record_shapes")


@dataclass(frozen=True, slots=True)
class Worker:
    """One trace as the plugin sees it."""

    worker: str
    kernels: int
    operators: int


def write_logdir(sources: list[Path], logdir: Path, done: Callable[[], None]) -> list[Worker]:
    """Write the traces of ``sources`` into ``logdir`` and return what the plugin reads from each.

    Raises:
        TraceError: the source is no trace, or the plugin cannot read it.
    """
    found = []
    for source in sources:
        found.append(_write_worker(source, logdir))
        done()
    names = msgspec.json.format(msgspec.json.encode([worker.worker for worker in found]))
    (logdir / _LIST).write_bytes(names)
    return found


def is_logdir(directory: Path) -> bool:
    """Tell whether ``directory`` holds nothing but what ``write_logdir`` wrote, so that it may be replaced."""
    inside = list(directory.rglob("*"))
    return (directory / _LIST).is_file() and all(p.is_dir() or p.name == _LIST or p.name.endswith(_TRACE) for p in inside)


def _write_worker(source: Path, logdir: Path) -> Worker:
    run = open_run(source)
    document = read_json(run.trace)
    events = document if isinstance(document, list) else document["traceEvents"]
    for event in events:
        if isinstance(event, dict) and event.get("cat") in _LAUNCHES:
            event["cat"] = _LAUNCHES[event["cat"]]
    top: dict[str, Any] = {} if isinstance(document, list) else {k: document[k] for k in _KEPT if k in document}
    worker = safe_name(run.name).replace(".", "-")
    target = logdir / worker / f"{worker}{_TRACE}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(target, "wb") as file:
        file.write(msgspec.json.encode(top | {"traceEvents": events}))
    return _as_the_plugin(worker, target)


def _as_the_plugin(worker: str, path: Path) -> Worker:
    from torch_tb_profiler.profiler.data import RunProfileData

    logging.disable(logging.WARNING)  # one line for every launch without an operator, thousands of them
    with tempfile.TemporaryDirectory() as cache, contextlib.redirect_stdout(io.StringIO()):
        try:
            data = RunProfileData.parse(worker, "1", str(path), cache)
        except Exception as error:
            raise TraceError(
                f"TensorBoard's plugin cannot read {path.name}: {type(error).__name__}: {error}",
                "it is frozen upstream; `analyzer task=report` reads this trace",
            ) from error
        finally:
            logging.disable(logging.NOTSET)
    kernels = 0 if data.kernel_stat is None else int(data.kernel_stat["count"].sum())
    return Worker(worker, kernels, len(data.op_list_groupby_name))
