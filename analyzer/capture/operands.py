"""Exact inputs and outputs of every operator of one step: torch's execution trace turned into ``ops.json.gz``.

The execution trace numbers a storage by its address, and an address is used again once it is free. The numbers in
``ops.json.gz`` are unique: a storage that an operator brings forth gets a new one.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch.profiler import ExecutionTraceObserver

from analyzer.capture.latency import Step
from analyzer.errors import DeviceError

OPS_FORMAT_VERSION = 1
_DTYPES = {
    "float": "float32",
    "double": "float64",
    "c10::Half": "float16",
    "c10::BFloat16": "bfloat16",
    "int": "int32",
    "long int": "int64",
    "long": "int64",
    "short int": "int16",
    "short": "int16",
    "signed char": "int8",
    "unsigned char": "uint8",
    "bool": "bool",
    "c10::complex<float>": "complex64",
    "c10::complex<double>": "complex128",
}


def record_step(step: Step, device: torch.device, scratch: Path) -> list[dict[str, Any]]:
    """Run ``step`` once under the execution trace observer; return its operators in order of call.

    Raises:
        DeviceError: torch wrote no usable execution trace.
    """
    raw = scratch / "execution_trace.raw.json"
    observer = _Observer()
    observer.register_callback(str(raw))
    try:
        _run_observed(step, device, observer)
    except BaseException:
        raw.unlink(missing_ok=True)
        raise
    try:
        return convert(msgspec.json.decode(raw.read_bytes()))
    except (OSError, msgspec.DecodeError, LookupError, ValueError, TypeError) as error:
        raise DeviceError(f"torch wrote no usable execution trace: {error}", "try another version of torch") from error
    finally:
        raw.unlink(missing_ok=True)


class _Observer(ExecutionTraceObserver):
    """An observer that may be dropped before it is initialised, as by Ctrl-C: torch's own fails aloud then."""

    _registered = False


def _run_observed(step: Step, device: torch.device, observer: ExecutionTraceObserver) -> None:
    observer.start()
    try:
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    finally:
        observer.stop()
        observer.unregister_callback()


def write_ops(path: Path, ops: list[dict[str, Any]]) -> None:
    """Write ``ops.json.gz``."""
    data = msgspec.json.encode({"format_version": OPS_FORMAT_VERSION, "ops": ops})
    path.write_bytes(gzip.compress(data, compresslevel=6, mtime=0))


def convert(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the operators of an execution trace in order of call; see the format in ``docs/files.md``."""
    nodes = sorted((node for node in trace["nodes"] if _is_operator(node)), key=lambda node: node["id"])
    ops = {
        node["id"]: {"name": node["name"], "inputs": _arguments(node["inputs"]), "outputs": _arguments(node["outputs"])}
        for node in nodes
    }
    _number_storages(nodes, ops)
    return list(ops.values())


def _is_operator(node: dict[str, Any]) -> bool:
    return any(attribute["name"] == "op_schema" and attribute["value"] for attribute in node.get("attrs", ()))


def _arguments(side: dict[str, Any]) -> list[dict[str, Any]]:
    rows = zip(side["values"], side["shapes"], side["strides"], side["types"], strict=True)
    return [_argument(*row) for row in rows]


def _argument(value: Any, shape: Any, stride: Any, kind: str) -> dict[str, Any]:
    if kind.startswith("Tensor("):
        return _tensor(value, shape, stride, kind) or {"value": None}
    if kind.startswith("GenericList[") and "Tensor(" in kind:
        kinds = re.findall(r"Tensor\([^()]*(?:\([^()]*\)[^()]*)*\)|[^,\[\]]+", kind.removeprefix("GenericList["))
        members = [_tensor(*row) for row in zip(value, shape, stride, kinds, strict=False) if row[3].startswith("Tensor(")]
        return {"tensors": [member for member in members if member is not None]}
    return {"value": None if value == "<None>" else value}


def _tensor(value: Any, shape: Any, stride: Any, kind: str) -> dict[str, Any] | None:
    name = kind.removeprefix("Tensor(").removesuffix(")")
    if name.startswith("nullptr") or not isinstance(value, list) or len(value) < 5:
        return None
    _, storage, offset, _, itemsize = value[:5]
    return {
        "shape": shape,
        "stride": stride,
        "dtype": _DTYPES.get(name, name),
        "storage": storage,
        "offset": offset,
        "itemsize": itemsize,
    }


def _tensors(arguments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for argument in arguments:
        if "tensors" in argument:
            found += argument["tensors"]
        elif "storage" in argument:
            found.append(argument)
    return found


class _Frame:
    """A call in progress: ``known`` are the addresses that it was given or that came forth in it so far."""

    def __init__(self, node: int, known: set[int]) -> None:
        self.node, self.known = node, known


class _Numbering:
    """Replaces the addresses of storages by unique numbers, call by call.

    An operator inside another can only see what its caller was given or what came forth in the caller; an address
    beyond that is an allocation that torch made without an operator. An output that is neither an input nor came
    forth inside is new. At the top level an unknown address is a weight or another tensor from before the step.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._count = 0
        self._stack: list[_Frame] = []

    def start(self, node: int, inputs: list[dict[str, Any]]) -> None:
        frame = self._stack[-1] if self._stack else None
        for tensor in inputs:
            address = tensor["storage"]
            if address not in self._numbers or (frame is not None and address not in frame.known):
                self._renew(address)
            if frame is not None:
                frame.known.add(address)
        self._stack.append(_Frame(node, {tensor["storage"] for tensor in inputs}))
        for tensor in inputs:
            tensor["storage"] = self._numbers[tensor["storage"]]

    def finish(self, outputs: list[dict[str, Any]]) -> None:
        frame = self._stack.pop()
        caller = self._stack[-1] if self._stack else None
        for tensor in outputs:
            address = tensor["storage"]
            if address not in frame.known:
                self._renew(address)
                frame.known.add(address)
            if caller is not None:
                caller.known.add(address)
            tensor["storage"] = self._numbers[address]

    @property
    def current(self) -> int | None:
        return self._stack[-1].node if self._stack else None

    def _renew(self, address: int) -> None:
        self._count += 1
        self._numbers[address] = self._count


def _number_storages(nodes: list[dict[str, Any]], ops: dict[int, dict[str, Any]]) -> None:
    numbering = _Numbering()

    def unwind(until: int | None) -> None:
        while numbering.current is not None and numbering.current != until:
            numbering.finish(_tensors(ops[numbering.current]["outputs"]))

    for node in nodes:
        unwind(node["ctrl_deps"])
        numbering.start(node["id"], _tensors(ops[node["id"]]["inputs"]))
    unwind(None)
