"""Hostile traces, made up from a number: the same number gives the same input."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import zstandard

SEEDS = Path(__file__).resolve().parent.parent / "tests" / "trace" / "hostile"

PIECES = (48, 64, 200, 1000, 1 << 21)
"""Sizes of a piece to read with; the reader's own is the last one."""


class Token(str):
    """Text that is written as it stands, JSON or not."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object whose keys may come twice."""


@dataclass(frozen=True, slots=True)
class Input:
    """One file to read: ``plain`` is the text in it where that is known."""

    suffix: str
    data: bytes
    plain: bytes | None
    piece_bytes: int


NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 0.5, -0.0004, 2.0005, 1e-12, 1414456661986.051, 1700000000123456, Token("1700000000123456.789"), 1e15, 4e15,
    9e17, 1e300,
    2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30, 10**400, Token("1" + "0" * 5000), Token("1e999"),
    Token("-1e999"),
    Token("1E-400"), Token("1e99999999999999999999"), Token("-0"),
)  # fmt: skip
TOKENS = tuple(
    map(
        Token,
        (
            "NaN",
            "-NaN",
            "Infinity",
            "-Infinity",
            "nan",
            "inf",
            "-inf",
            "N/A",
            "None",
            "undefined",
            "01",
            "+1",
            "0x10",
            "",
            "'a'",
            ".5",
        ),
    )
)
STRINGS: tuple[Any, ...] = (
    "", "12", "1.5", "-3", "NaN", "Infinity", "1e5", "1e999", " 7", "0x7", "kernel", "}, {", "]}", '"', "\\",
    "\\\\", '\\"', "a},{b", "é", "名",
    Token('"\x01\x1f"'), Token('"a\nb\tc"'), Token('"\\ud800"'), Token('"\\x"'), Token('"\\u12"'), Token('"\\ud83d\\ude00"'),
    "N/A", "rank 3", "stream 7", "nn.Module: Linear_0", "nn.Module: " + "x" * 3000, "ProfilerStep#" + "9" * 30, "\x7f\u2028",
)  # fmt: skip
NAMES = (
    "void at::native::vectorized_elementwise_kernel<4, Gelu>(int)", "sm90_xmma_gemm_bf16_tn", "aten::linear", "aten::addmm",
    "aten::relu",
    "cudaLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaDeviceSynchronize", "ProfilerStep#1", "ProfilerStep#2",
    "module::a.b",
    "nn.Module: Block_0", "nn.Module: Linear_1", "Memcpy DtoH (Device -> Pageable)", "PyTorch Profiler (0)",
    "Optimizer.step#SGD.step",
)  # fmt: skip
CATEGORIES = (
    "kernel", "Kernel", "cpu_op", "Operator", "cuda_runtime", "Runtime", "cuda_driver", "gpu_memcpy", "gpu_memset",
    "user_annotation",
    "python_function", "cuda_profiler_range", "ac2g", "gpu_user_annotation", "Trace", "mtia_ccp_events",
    "privateuse1_runtime",
)  # fmt: skip
ARGUMENTS = (
    "device", "stream", "correlation", "External id", "external id", "grid", "block", "registers per thread",
    "shared memory", "bytes",
    "est. achieved occupancy %", "graph id", "graph node id", "Sequence number", "Fwd thread id", "Input Dims", "Input type",
    "Input Strides", "Concrete Inputs", "smsp__inst_executed.sum", "Call stack", "labels",
)  # fmt: skip
TOP = (
    "deviceProperties", "computeProperties", "baseTimeNanoseconds", "hip_runtime_version", "roctracer_version",
    "distributedInfo",
    "schemaVersion", "traceName", "hostname", "displayTimeUnit", "with_stack",
)  # fmt: skip
_PIECES_OF_JSON = (
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"},{", b"]}", b'{"ph":"X",', b'"traceEvents":[', b"null", b"N/A",
    b"\x00", b"\xff", b"\xc3",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r\n", b"  ", b"9" * 30, b'"}', b'"cat":"kernel"', b'"ts":', b"-", b"e9",
)  # fmt: skip


def seeds() -> list[bytes]:
    """Return the inputs that are kept in the repository."""
    return [path.read_bytes() for path in sorted(SEEDS.glob("*.json"))]


def make(seed: int, number: int, corpus: list[bytes]) -> Input:
    """Return input ``number`` of the run ``seed``."""
    random = Random(f"{seed}/{number}")
    text = document(random) if random.random() < 0.75 or not corpus else random.choice(corpus)
    if random.random() < 0.5:
        for _ in range(random.choice((1, 1, 2, 4))):
            text = mutate(random, text, corpus)
    return pack(random, text)


def document(random: Random) -> bytes:
    """Return the text of a trace whose values may be of any kind."""
    strange = random.choice((0.0, 0.0, 0.01, 0.05, 0.3))
    count = random.choice((0, 1, 3, 10, 40, 40))
    events: list[Any] = [_event(random, strange, i) for i in range(count)]
    if random.random() < strange:
        events.insert(random.randint(0, count), _value(random))
    if random.random() < 0.01:
        events.append(Token('{"ph":"X","cat":"kernel","ts":1,"dur":1,"name":"' + random.choice("a}],\x01é") * 100_000 + '"}'))
    style = random.choice(((",", ":"), (", ", ": "), (",\n    ", ": "), (" ,\r\n", " : ")))
    if random.random() < 0.1:
        return _write(events, style).encode("utf-8", "surrogatepass")
    top = Pairs([("traceEvents", events)] * random.choice((1, 1, 1, 1, 1, 1, 1, 0, 2)))
    for key in random.sample(TOP, random.randint(0, 5)):
        top.insert(random.randint(0, len(top)), (key, _top(random, key, strange)))
    return _write(top, style).encode("utf-8", "surrogatepass")


def mutate(random: Random, text: bytes, corpus: list[bytes]) -> bytes:
    """Return ``text`` with one place of it cut, doubled, replaced, or joined with another input."""
    at, length = random.randint(0, len(text)), min(len(text), random.choice((1, 2, 5, 20, 60, 200)))
    other = random.choice(corpus) if corpus else b"[]"
    where = random.randint(0, len(other))
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: text[:at],
        lambda: text[:at] + text[at + length :],
        lambda: text[: at + length] + text[at:],
        lambda: text[:at] + random.choice(_PIECES_OF_JSON) + text[at:],
        lambda: text[:at] + random.choice(_PIECES_OF_JSON) + text[at + length :],
        lambda: text[:at] + random.randbytes(random.randint(1, 4)) + text[at + 1 :],
        lambda: text[:at] + other[where : where + 20 * length] + text[at:],
        lambda: text.replace(random.choice(_PIECES_OF_JSON), random.choice(_PIECES_OF_JSON), random.choice((1, 1, 1, -1)))[
            : 1 << 20
        ],
        lambda: _swap_value(random, text),
        lambda: text[:at] + random.choice((b"[", b'{"a":', b"\\", b" ", b",")) * random.choice((10, 999, 10_000)) + text[at:],
    )
    return random.choice(kinds)()


def _swap_value(random: Random, text: bytes) -> bytes:
    """Return ``text`` with the value behind one colon replaced."""
    colons = [i for i, byte in enumerate(text[:50_000]) if byte == ord(":")]
    if not colons:
        return text
    at = random.choice(colons) + 1
    ends = [e for e in (text.find(mark, at) for mark in (b",", b"}")) if e >= 0]
    return (
        text[:at] + _write(_value(random), (",", ":")).encode("utf-8", "surrogatepass") + text[min(ends, default=len(text)) :]
    )


def pack(random: Random, text: bytes) -> Input:
    """Return ``text`` as a file: plain, packed, or packed and then damaged."""
    kind, damaged = random.random(), random.random() < 0.3
    size = random.choice(PIECES)
    if kind < 0.75:
        return Input(".json", text, text, size)
    if kind < 0.9:
        cut = random.randint(0, len(text)) if random.random() < 0.2 else len(text)
        data = b"".join(
            gzip.compress(part, random.choice((0, 1, 6)), mtime=0) for part in (text[:cut], text[cut:]) if part or cut
        )
        data += bytes(random.choice((0, 0, 0, 100)))
    else:
        data = zstandard.ZstdCompressor(write_checksum=random.random() < 0.5).compress(text)
    for _ in range(random.randint(1, 3) if damaged else 0):
        data = mutate(random, data, [])
    return Input(random.choice((".json.gz", ".json")), data, None if damaged else text, size)


def _event(random: Random, strange: float, i: int) -> Pairs:
    category = random.choice(CATEGORIES[:1] * 8 + CATEGORIES[2:3] * 4 + CATEGORIES[4:5] * 4 + CATEGORIES)
    phase = "X" if category != "ac2g" else random.choice(("s", "f"))
    at, length = random.randint(0, 50) * 10, random.choice((0, 1, 7, 20, 250.5, 3.125))
    fields = Pairs(
        (("ph", phase), ("cat", category), ("name", random.choice(NAMES)), ("pid", random.choice((0, 1, "0", "spans"))),
         ("tid", random.choice((1, 7, "7", "stream 7"))), ("ts", at + random.choice((0, 0.001, 0.5))), ("dur", length),
         ("args", _args(random, strange, i)))
    )  # fmt: skip
    if phase != "X":
        fields.append(("id", random.randint(0, 20)))
    for place in range(len(fields)):
        if random.random() < strange / 2:
            fields[place] = (fields[place][0], _value(random))
    if random.random() < strange:
        del fields[random.randrange(len(fields))]
    if random.random() < strange:
        fields.append((random.choice(fields)[0], _value(random)))
    if random.random() < 0.3:
        random.shuffle(fields)
    return fields


def _args(random: Random, strange: float, i: int) -> Any:
    known: dict[str, Any] = {
        "device": 0, "stream": random.choice((7, 20)), "correlation": random.choice((i, i // 2, 0, -1)), "External id": i // 3,
        "grid": [random.randint(1, 300), 1, 1], "block": [128, 1, 1], "registers per thread": 32, "shared memory": 49152,
        "est. achieved occupancy %": 30, "graph id": random.choice((0, 0, 5)), "graph node id": i, "Sequence number": i % 5,
        "Fwd thread id": i % 2, "Input Dims": [[8, 16], [16]], "Input type": ["float"] * 2, "Input Strides": [[16, 1], [1]],
        "Concrete Inputs": ["", ""], "smsp__inst_executed.sum": 10 * i, "Call stack": "/home/x/y.py(3): f",
    }  # fmt: skip
    names = random.sample(ARGUMENTS, random.randint(0, len(ARGUMENTS)))
    return Pairs((name, _value(random) if random.random() < strange / 3 else known.get(name, i)) for name in names)


def _top(random: Random, key: str, strange: float) -> Any:
    if random.random() < strange:
        return _value(random)
    device = {"id": 0, "name": "NVIDIA H100", "computeMajor": 9, "computeMinor": 0, "numSms": 132, "totalGlobalMem": 85 * 10**9}
    if key.endswith("Properties"):
        return [Pairs((k, _value(random) if random.random() < strange else v) for k, v in device.items())]
    known: dict[str, Any] = {
        "baseTimeNanoseconds": 10**18,
        "distributedInfo": {"rank": 1, "world_size": 2},
        "hip_runtime_version": 0,
    }
    return known.get(key, "secret")


def _value(random: Random, depth: int = 0) -> Any:
    kind = random.random()
    if kind < 0.85:
        return random.choice(random.choices((NUMBERS, STRINGS, TOKENS, (None, True, False)), (8, 4, 3, 2))[0])
    if kind < 0.9:
        deep = random.choice((50, 900, 1000, 1100, 10_000))
        return Token("[" * deep + "]" * random.choice((deep, deep - 1))) if depth == 0 else []
    if kind < 0.95:
        return [_value(random, depth + 1) for _ in range(random.randint(0, 3))]
    return Pairs((random.choice(ARGUMENTS), _value(random, depth + 1)) for _ in range(random.randint(0, 3)))


def _write(value: Any, style: tuple[str, str]) -> str:
    if isinstance(value, Token):
        return str(value)
    if isinstance(value, dict):
        value = Pairs(value.items())
    if isinstance(value, Pairs):
        return "{" + style[0].join(f'"{key}"{style[1]}{_write(each, style)}' for key, each in value) + "}"
    if isinstance(value, list):
        return "[" + style[0].join(_write(each, style) for each in value) + "]"
    return json.dumps(value, ensure_ascii=False)
