"""What the Trace Event format demands of a file, checked event by event.

Sources: "Trace Event Format", Google, document 1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (the phases, the fields of each, times
in microseconds, B and E of a thread in the
order of their times, counters have numbers, flows have ids), and the reader that has the last word,
google/perfetto ``src/trace_processor/importers/json/json_trace_tokenizer.cc`` and ``json_trace_parser.cc`` (``dur`` of X must be a
number, ``C`` needs an object of numbers, ``s``/``t``/``f`` need an id, b/e/n need a pid and an id, metadata needs args, names
of processes and threads must not be empty, numbers of processes have 32 bits), and ``docs/getting-started/other-formats.md`` of the
same repository (slices of a track must nest). No package on PyPI checks this: ``chrometrace`` only writes, ``perfetto`` downloads its
``trace_processor`` when it runs.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

PHASES = set("BEXiICbnestfPNODMVvRcSTpF")
METADATA = {
    "process_name": "name",
    "process_labels": "labels",
    "process_sort_index": "sort_index",
    "thread_name": "name",
    "thread_sort_index": "sort_index",
}
TOP = {
    "traceEvents", "displayTimeUnit", "schemaVersion", "deviceProperties", "computeProperties", "cupti_version", "cuda_runtime_version",
    "cuda_driver_version", "hip_runtime_version", "hip_driver_version", "roctracer_version", "trace_id", "baseTimeNanoseconds",
    "record_shapes", "with_stack", "with_modules", "with_flops", "profile_memory", "distributedInfo",
}  # fmt: skip


def load(path: Path) -> dict[str, Any]:
    """Return the document with its fractions as decimals; NaN and infinity, which JSON does not have, are refused."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    found = json.loads(data.decode("utf-8", "strict"), parse_constant=refuse, parse_float=Decimal)
    assert isinstance(found, dict)
    return found


def is_number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def faults(document: dict[str, Any]) -> list[str]:
    """Return what the format does not allow, a sentence each."""
    out = [f"top level: {key}" for key in document if key not in TOP]
    if document.get("displayTimeUnit", "ms") not in ("ms", "ns"):
        out.append("displayTimeUnit")
    pending: Counter[tuple[Any, Any]] = Counter()
    last: dict[tuple[Any, Any], Any] = {}
    for number, event in enumerate(document["traceEvents"]):
        found = _event_faults(event)
        if not found and event["ph"] in "BE":
            thread = event["pid"], event["tid"]
            pending[thread] += 1 if event["ph"] == "B" else -1
            found += ["E without B"] * (pending[thread] < 0) + ["B or E out of order"] * (
                event["ts"] < last.get(thread, event["ts"])
            )
            last[thread] = event["ts"]
        out += [f"event {number}: {fault}: {str(event)[:200]}" for fault in found]
    return out + [f"B without E on {thread}" for thread, count in pending.items() if count > 0]


def _event_faults(event: Any) -> list[str]:
    if not isinstance(event, dict):
        return ["no object"]
    phase = event.get("ph")
    if phase not in PHASES:
        return ["unknown phase"]
    args = event.get("args")
    wrong = {
        "name is no text": not isinstance(event.get("name"), str),
        "cat is no text": not isinstance(event.get("cat", ""), str),
        "args is no object": "args" in event and not isinstance(args, dict),
        "ts is no number": (phase != "M" or "ts" in event) and not is_number(event.get("ts")),
        "dur is no duration": phase == "X" and not (is_number(event.get("dur")) and event["dur"] >= 0),
        "a counter without numbers": phase == "C" and not (args and all(map(is_number, args.values()))),
        "no id": phase in "stfbne" and not isinstance(event.get("id", event.get("id2")), str | int | dict),
        "unknown scope": phase in "iI" and event.get("s", "t") not in ("g", "p", "t"),
        "unknown metadata": phase == "M" and METADATA.get(event["name"], "?") not in (args or {}),
    }
    wrong |= {f"{key} is no number and no text": not _is_label(event.get(key)) for key in ("pid", "tid")}
    return [fault for fault, found in wrong.items() if found]


def _is_label(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


def unpaired_flows(events: list[dict[str, Any]]) -> list[Any]:
    """Return the ids of flows that end and never start; Kineto itself writes such ends for launches without an operator."""
    begun = {(e.get("cat"), e["name"], e["id"]) for e in events if e["ph"] == "s"}
    return [e["id"] for e in events if e["ph"] in "tf" and (e.get("cat"), e["name"], e["id"]) not in begun]


def slices(events: list[dict[str, Any]], pid: Any, tid: Any) -> list[tuple[str, Decimal, Decimal, int, dict[str, Any]]]:
    """Return the slices of a track as (name, start, end, depth, args), in the order of their beginnings; ends add arguments."""
    found: list[list[Any]] = []
    pending: list[int] = []
    for event in events:
        if (event["pid"], event["tid"]) != (pid, tid):
            continue
        if event["ph"] == "B":
            pending.append(len(found))
            found.append([event["name"], Decimal(event["ts"]), None, len(pending) - 1, event.get("args", {})])
        elif event["ph"] == "E":
            row = found[pending.pop()]
            row[2], row[4] = Decimal(event["ts"]), row[4] | event.get("args", {})
    assert not pending
    return [(name, start, end, depth, args) for name, start, end, depth, args in found]
