"""Run directories in which every text that a trace or run.json controls is hostile."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

from analyzer.trace.rundir import TRACE_FILE
from tests.report.synthetic import Fake, write_run

TEXTS = {
    "script": "<script>window.pwned=1;alert(1)</script>",
    "end of script": '</script></style></svg><img src=x onerror="window.pwned=1;alert(2)">',
    "quotes": '"\'`&quot;&#39; onmouseover=alert(3) x="',
    "bidi and controls": "abc\u202egnp.exe\u2066\u200b\x1b[31m\x00 \ud83d {{ 7*7 }} $\\frac{1}{0}$",
    "long": "long" * 25_000,
    "long words": "a b " * 25_000,
}
FORBIDDEN = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\u200e\u200f\x00\x1b")
KEPT = {"type", "family", "memory_format", "dtype", "created_utc", "unit", "compute_capability"}
"""Fields of run.json that are read as one of a few words; anything else in them is refused or changes what is shown."""


def spoil(value: Any, text: str) -> Any:
    """Return ``value`` with every text in it replaced; the keys of dictionaries stay."""
    if isinstance(value, dict):
        return {key: item if key in KEPT else spoil(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [spoil(item, text) for item in value]
    return text if isinstance(value, str) else value


def write_hostile_run(root: Path, fake: Fake, text: str) -> Path:
    """Write a run whose names, arguments, annotations, facts, warnings and commands are all ``text``."""
    directory = write_run(root, fake)
    path = directory / "run.json"
    sound = text.replace("\ud83d", "")[:1000]  # half a character makes run.json no JSON; the reader refuses it
    facts = spoil(json.loads(path.read_text()), sound)
    facts["versions"] = {sound: sound, "torch": sound}
    facts["warnings"], facts["command"] = [sound] * 2, ["analyzer", sound]
    path.write_text(json.dumps(facts))
    trace = directory / TRACE_FILE
    with gzip.open(trace, "rt") as file:
        found = json.load(file)
    events = found["traceEvents"]
    for event in events:
        if event["cat"] in ("cpu_op", "kernel", "gpu_memcpy", "cuda_runtime"):
            event["name"] = event["name"] if event["cat"] == "cuda_runtime" else f"{event['name']} {text}"
        elif event["name"].startswith("ProfilerStep"):
            event["name"] = f"{event['name']} {text}" if re.search(r"#2$", event["name"]) else event["name"]
        arguments = event["args"]
        if "Input Dims" in arguments:
            arguments |= {"Concrete Inputs": [text, text], "Call stack": f"{text};{text}", "Sequence number": text}
            arguments["Input type"] = [text, *arguments["Input type"][1:]]
        if "bytes" in arguments:
            arguments["memory bandwidth (GB/s)"] = text
    start, end = events[0]["ts"], max(event["ts"] + event["dur"] for event in events)
    common = {"ph": "X", "pid": 1, "tid": 1}
    extra = [
        {**common, "cat": "user_annotation", "name": text, "ts": start, "dur": end - start, "args": {text: text}},
        {**common, "cat": "user_annotation", "name": f"module::{text}.{text}", "ts": start, "dur": end - start, "args": {}},
        {**common, "cat": "python_function", "name": f"nn.Module: {text}_0", "ts": start, "dur": end - start,
         "args": {"Python id": 1, "Python parent id": None, "Python module id": 0}},
        {**common, "cat": "python_function", "name": f"{text}(12): {text}", "ts": start + 1, "dur": end - start - 2,
         "args": {"Python id": 2, "Python parent id": 1}},
        {**common, "cat": text, "name": text, "ts": start, "dur": 1.0, "args": {}},
    ]  # fmt: skip
    total = 0
    for place in range(8):
        size = 2**20 if place < 4 else -(2**20)
        total += size
        arguments = {"Total Reserved": 2**24, "Total Allocated": total, "Bytes": size, "Addr": place % 4, "Device Id": 0,
                     "Device Type": 1 if fake.device == "cuda" else 0, text: text}  # fmt: skip
        extra.append({"ph": "i", "s": "t", "cat": "cpu_instant_event", "name": "[memory]", "pid": 1, "tid": 1,
                      "ts": start + 10 * place, "args": arguments})  # fmt: skip
    found["traceEvents"] = events + extra
    found["deviceProperties"] = [{**device, "name": f"{device['name']} {text}"} for device in found["deviceProperties"]]
    found[text] = found["trace_name"] = found["displayTimeUnit"] = text
    with gzip.open(trace, "wt") as file:
        json.dump(found, file)
    return directory
