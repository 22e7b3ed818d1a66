"""What torch.compile is seen to make of small models: kernels in order, their operators with modules, what they read and write.

Everything is compiled for real but the C++ code, which takes seconds a kernel and is not run: a generated kernel does nothing.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from analyzer.capture.compiled import recording
from analyzer.capture.modes import outside_ci
from analyzer.trace.calls import exact_call

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")

Row = dict[str, Any]


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        found = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(found.transpose(1, 2).reshape(n, tokens, width))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(32, eps=1e-6), nn.LayerNorm(32)
        self.attn = Attention(32, 4)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(approximate="tanh"), nn.Linear(64, 32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Small(nn.Module):
    """A stem of a convolution with batch norm, then a transformer block; the weights of the last two layers are shared."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 32, 4, 4), nn.BatchNorm2d(32)
        self.block = Block()
        self.one = nn.Sequential(nn.Linear(32, 32), nn.ReLU())
        self.two = self.one

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn(self.conv(images))).flatten(2).transpose(1, 2)
        x = self.block(x)
        return self.two(self.one(x)).mean(1)


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc(x).relu()
        torch._dynamo.graph_break()
        return self.norm(x) * 2


class Broken(nn.Module):
    """Two blocks of one class whose forward is compiled in two pieces each."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Inner(), Inner()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x.sin()


@contextmanager
def _no_machine_code(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from torch._inductor.async_compile import AsyncCompile

    with monkeypatch.context() as patch:
        patch.setattr(AsyncCompile, "cpp_pybinding", lambda *_, **__: lambda *_: None)
        yield


def _recorded(model: nn.Module, batch: torch.Tensor, path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Row, list[str]]:
    import torch._functorch.config as functorch
    from torch._inductor import config

    torch._dynamo.reset()
    model = model.eval().requires_grad_(False)
    uncached = functorch.patch(enable_autograd_cache=False)
    unmatched = config.patch(pattern_matcher=False)  # it takes seconds to set up, and has no say in these models
    with _no_machine_code(monkeypatch), uncached, unmatched, outside_ci(), torch.inference_mode(), recording(model) as recorder:
        torch.compile(model, dynamic=False)(batch)
        recorder.write(path / "compiled.json.gz")
    torch._dynamo.reset()
    document: Row = json.loads(gzip.decompress((path / "compiled.json.gz").read_bytes()))
    return document, recorder.notes


Record = Callable[[nn.Module, torch.Tensor], tuple[Row, list[str]]]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Record]:
    patch = pytest.MonkeyPatch()
    torch.set_num_threads(1)

    def run(model: nn.Module, batch: torch.Tensor) -> tuple[Row, list[str]]:
        return _recorded(model, batch, tmp_path_factory.mktemp("compiled"), patch)

    yield run
    patch.undo()


@pytest.fixture(scope="module")
def small(record: Record) -> Row:
    return record(Small(), torch.randn(2, 3, 16, 16))[0]


def _shape(argument: Row) -> Any:
    if "tensors" in argument:
        return [tuple(one["shape"]) for one in argument["tensors"]]
    return tuple(argument["shape"]) if "shape" in argument else argument["value"]


def _brief(call: Row) -> tuple[str, list[tuple[str, str]]]:
    return call["kernel"].rstrip("0123456789"), [(part["name"], part["module"]) for part in call["parts"]]


def _part(document: Row, name: str, module: str) -> Row:
    found = [
        p for g in document["graphs"] for c in g["calls"] for p in c["parts"] if (p["name"], p["module"]) == (name, module)
    ]
    assert len(found) == 1, found
    return found[0]


def test_every_kernel_has_its_operators_and_modules_in_order(small: Row) -> None:
    assert (small["format_version"], small["note"], small["torch"]) == (1, "", str(torch.__version__))
    (graph,) = small["graphs"]
    attention = "aten::_scaled_dot_product_flash_attention_for_cpu"
    assert [_brief(call) for call in graph["calls"]] == [
        ("cpp_fused_convolution_", [("aten::clone", "conv"), ("aten::clone", "conv")]),
        ("aten::convolution", [("aten::convolution", "conv")]),
        (
            "cpp_fused__native_batch_norm_legit_no_training_native_layer_norm_relu_transpose_view_",
            [("aten::_native_batch_norm_legit_no_training", "bn"), ("aten::relu", "Small"),
             ("aten::native_layer_norm", "block.norm1")],
        ),
        ("aten::addmm", [("aten::addmm", "block.attn.qkv")]),
        (attention, [(attention, "block.attn")]),
        ("aten::addmm", [("aten::addmm", "block.attn.proj")]),
        (
            "cpp_fused__native_batch_norm_legit_no_training_add_native_layer_norm_relu_transpose_view_",
            [("aten::add", "block"), ("aten::native_layer_norm", "block.norm2")],
        ),
        ("aten::addmm", [("aten::addmm", "block.mlp.0")]),
        ("cpp_fused_gelu_view_", [("aten::gelu", "block.mlp.1")]),
        ("aten::addmm", [("aten::addmm", "block.mlp.2")]),
        # the first sum is not kept: this kernel adds it once more
        (
            "cpp_fused__native_batch_norm_legit_no_training_add_relu_transpose_view_",
            [("aten::add", "block"), ("aten::add", "block")],
        ),
        ("aten::bmm", [("aten::bmm", "one.0")]),
        ("cpp_fused_add_relu_", [("aten::add", "one.0"), ("aten::relu", "one.1")]),
        ("aten::addmm", [("aten::addmm", "one.0")]),
        ("cpp_fused_mean_relu_view_", [("aten::relu", "one.1"), ("aten::mean", "Small")]),
    ]  # fmt: skip
    assert [call["fused"] for call in graph["calls"]] == [call["kernel"].startswith("cpp_") for call in graph["calls"]]


def test_parts_have_the_arguments_of_their_schema(small: Row) -> None:
    norm = _part(small, "aten::native_layer_norm", "block.norm1")
    assert [_shape(a) for a in norm["inputs"]] == [(2, 16, 32), [32], (32,), (32,), 1e-6]
    assert [_shape(a) for a in norm["outputs"]] == [(2, 16, 32), (2, 16, 1), (2, 16, 1)]
    gelu = _part(small, "aten::gelu", "block.mlp.1")
    assert [_shape(a) for a in gelu["inputs"]] == [(2, 16, 64), "tanh"]
    product = _part(small, "aten::addmm", "block.mlp.2")
    assert [_shape(a) for a in product["inputs"]] == [(32,), (32, 64), (64, 32), 1, 1]
    assert [_shape(a) for a in product["outputs"]] == [(32, 32)]
    assert product["inputs"][2]["stride"] == [1, 64]
    convolution = _part(small, "aten::convolution", "conv")
    assert [_shape(a) for a in convolution["inputs"]] == [
        (2, 3, 16, 16), (32, 3, 4, 4), (32,), [4, 4], [0, 0], [1, 1], False, [0, 0], 1,
    ]  # fmt: skip
    mean = _part(small, "aten::mean", "Small")
    assert [_shape(a) for a in mean["inputs"]][:3] == [(2, 16, 32), [1], False]
    assert _shape(mean["outputs"][0]) == (2, 32)
    attention = _part(small, "aten::_scaled_dot_product_flash_attention_for_cpu", "block.attn")
    assert [_shape(a) for a in attention["inputs"]] == [(2, 4, 16, 8)] * 3 + [0.0, False, None, None]
    tensor = product["inputs"][1]
    assert {key: tensor[key] for key in ("dtype", "offset", "itemsize")} == {"dtype": "float32", "offset": 0, "itemsize": 4}
    for graph in small["graphs"]:
        for call in graph["calls"]:
            for part in call["parts"]:
                assert exact_call(part).results()


def test_what_a_kernel_reads_and_writes(small: Row) -> None:
    (graph,) = small["graphs"]
    calls = graph["calls"]
    kernels = [call for call in calls if call["kernel"].startswith("cpp_fused_gelu")]
    assert [[_shape(a) for a in kernels[0][side]] for side in ("reads", "writes")] == [[(32, 64)], [(2, 16, 64)]]
    last = calls[-1]
    assert [[_shape(a) for a in last[side]] for side in ("reads", "writes")] == [[(32, 32)], [(2, 32)]]
    # batch norm, relu and layer norm in one: the image of the convolution, four vectors of the one, two of the other
    entry = calls[2]
    assert [_shape(a) for a in entry["reads"]] == [(2, 32, 4, 4), *[(32,)] * 6]
    # the relu is kept for the sums, its normalised form for the product
    assert [_shape(a) for a in entry["writes"]] == [(2, 32, 4, 4), (2, 16, 32)]
    assert entry["writes"][0]["stride"] == [512, 1, 128, 32]


def test_memory_has_one_number_wherever_it_is_looked_at(small: Row) -> None:
    (graph,) = small["graphs"]
    calls = graph["calls"]
    for before, after in ((1, 2), (2, 6), (7, 8), (8, 9), (9, 10), (10, 11), (11, 12), (12, 13), (13, 14)):
        written = {tensor["storage"] for tensor in calls[before]["writes"]}
        assert written & {tensor["storage"] for tensor in calls[after]["reads"]}
    # q, k and v are looks at one product
    attention = calls[4]["parts"][0]["inputs"][:3]
    assert {tensor["storage"] for tensor in attention} == {calls[3]["writes"][0]["storage"]}
    assert [tensor["offset"] for tensor in attention] == [0, 32, 64]
    # weights used twice are the same memory
    assert calls[11]["reads"][1]["storage"] == calls[13]["reads"][2]["storage"]
    norm = calls[2]["parts"]
    assert norm[0]["outputs"][0]["storage"] == norm[1]["inputs"][0]["storage"]


def test_behind_a_graph_break_modules_keep_their_names(record: Record) -> None:
    document, notes = record(Broken(), torch.randn(4, 8))
    graphs = [[_brief(call) for call in graph["calls"]] for graph in document["graphs"]]
    first = [("aten::addmm", [("aten::addmm", "blocks.0.fc")]), ("cpp_fused_relu_", [("aten::relu", "blocks.0")])]
    rest = [("cpp_fused_mul_native_layer_norm_", [("aten::native_layer_norm", "blocks.0.norm"), ("aten::mul", "blocks.0")])]
    assert graphs[:2] == [first, rest]
    (note,) = notes
    assert note.startswith("there are graph breaks: code is compiled for one module, such as blocks.0, and may run for others")


def test_nothing_stays_behind(record: Record) -> None:
    from torch._inductor import config, debug
    from torch._inductor.codegen import cpp
    from torch.fx.experimental import proxy_tensor

    places = [(debug, "set_kernel_post_grad_provenance_tracing"), (cpp, "set_kernel_post_grad_provenance_tracing"),
              (proxy_tensor, "maybe_handle_decomp")]  # fmt: skip
    before = [getattr(module, name) for module, name in places]
    cached = config.fx_graph_cache
    model = nn.Linear(2, 2)
    with recording(model) as recorder:
        assert [getattr(module, name) is old for (module, name), old in zip(places, before, strict=True)] == [False] * 3
        assert not config.fx_graph_cache
    assert [getattr(module, name) for module, name in places] == before
    assert (config.fx_graph_cache, recorder.model) == (cached, None)


def test_a_hook_that_fails_costs_no_run(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    from analyzer.capture.compiled import lowered, sources

    def fail(*_: Any) -> Any:
        raise KeyError("another torch")

    record(nn.Sequential(nn.Linear(4, 4), nn.GELU()), torch.randn(2, 4))  # the first of a process traces patterns of its own
    monkeypatch.setattr(lowered, "_stands_for", fail)
    monkeypatch.setattr(sources, "arguments", fail)
    document, notes = record(nn.Sequential(nn.Linear(4, 4), nn.GELU()), torch.randn(2, 4))
    assert notes == [
        "a kernel could not be read: KeyError: 'another torch'",
        "2 operators that torch took apart could not be read, and stand as what they became",  # t and gelu
    ]
    assert document["note"] == "; ".join(notes)
    assert [graph["calls"] for graph in document["graphs"]] == [[]]


def test_a_torch_without_the_hook(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    from analyzer.capture import compiled

    monkeypatch.setattr(sys.modules[compiled.recording.__module__], "_HOOK", "no_such_hook")
    document, notes = record(nn.Linear(4, 4), torch.randn(2, 4))
    assert notes == [f"torch {torch.__version__} tells nothing of the kernels that torch.compile makes"]
    assert (document["note"], document["graphs"]) == (notes[0], [])


def test_operators_that_are_not_told_apart_are_listed_one_by_one(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the place where operators are taken apart, a layer norm is the operators that it became."""
    from analyzer.capture.compiled import sources

    monkeypatch.setattr(sources, "_PLACE", "no_such_place")
    document, notes = record(nn.LayerNorm(8), torch.randn(4, 8))
    assert notes == []
    ((call,),) = [graph["calls"] for graph in document["graphs"]]
    names = [part["name"] for part in call["parts"]]
    assert names[0] == "aten::var_mean"
    assert {"aten::rsqrt", "aten::sub", "aten::mul", "aten::add"} <= set(names)
    assert {part["module"] for part in call["parts"]} == {"LayerNorm"}


def test_an_operator_without_a_lowering_compiles_in_any_ci(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inductor raises there where ``CI`` is set, which it takes for PyTorch's own."""
    from torch._inductor import lowering

    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
    monkeypatch.setenv("CI", "true")
    monkeypatch.delitem(lowering.lowerings, attention)
    with outside_ci():
        assert "CI" not in os.environ
    assert os.environ["CI"] == "true"

    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    _recorded(Attention(), torch.randn(1, 2, 16, 8), tmp_path, monkeypatch)
    assert os.environ["CI"] == "true"
