"""Which nodes of a graph a kernel computes, on graphs and kernels written by hand: also such as only a GPU has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from analyzer.capture.compiled import parts
from analyzer.capture.compiled.lowered import Buffer, Call, Lowered, _operator
from analyzer.capture.compiled.paths import ModulePaths
from analyzer.capture.compiled.tensors import Tensor, described
from analyzer.capture.compiled.walk import Elsewhere, work_of

aten = torch.ops.aten


class Graph:
    """A traced function with its nodes by name, and calls of kernels that a test adds."""

    def __init__(self, function: Any, *shapes: tuple[int, ...]) -> None:
        module = make_fx(function, tracing_mode="fake")(*(torch.empty(shape) for shape in shapes))
        self.lowered = Lowered(module.graph, ModulePaths(None, {}))
        self.nodes: dict[str, fx.Node] = {node.name: node for node in module.graph.nodes}

    def buffer(self, name: str, exact: bool = True, moved: bool = False, node: str = "") -> Buffer:
        stands = self.nodes[node or name]
        tensor: Tensor | None = described(stands.meta["val"])
        return Buffer(name, tensor, stands, exact, moved)

    def generated(self, reads: list[Buffer], writes: list[Buffer]) -> int:
        self.lowered.calls.append(Call("triton_poi_fused_0", True, tuple(reads), tuple(writes)))
        return len(self.lowered.calls) - 1

    def library(self, kernel: str, reads: list[Buffer], node: str) -> None:
        self.lowered.calls.append(Call(kernel, False, tuple(reads), (self.buffer(node),), self.nodes[node]))

    def names(self, position: int) -> list[str]:
        call = self.lowered.calls[position]
        return [node.name for node in work_of(call, position, self.lowered, Elsewhere(self.lowered)).nodes]

    def parts(self, position: int) -> list[tuple[str, list[Any]]]:
        row = parts.rows(self.lowered, [])[position]
        return [(part["name"], [arg.get("shape") for arg in part["inputs"] if "shape" in arg]) for part in row["parts"]]


def test_what_others_computed_is_no_part() -> None:
    graph = Graph(lambda x: torch.relu(torch.sin(torch.exp(x))), (4, 4))
    read = graph.generated([graph.buffer("sin")], [graph.buffer("relu")])
    assert graph.names(read) == ["relu"]
    again = graph.generated([graph.buffer("exp")], [graph.buffer("relu")])
    assert graph.names(again) == ["sin", "relu"]  # computed once more rather than read


def test_what_does_not_follow_from_what_is_read_is_no_part() -> None:
    graph = Graph(lambda x, y: torch.cat([torch.exp(x), torch.sin(y)]), (4, 4), (2, 4))
    piece = Buffer("cat", Tensor((4, 4), (4, 1), "float32", 0, 4), graph.nodes["cat"], False, True)
    assert graph.names(graph.generated([graph.buffer("x_1")], [piece])) == ["exp"]
    whole = graph.generated([graph.buffer("x_1"), graph.buffer("y_1")], [piece])
    assert graph.names(whole) == ["exp", "sin", "cat"]


def test_a_bias_that_is_added_behind_a_convolution() -> None:
    """On a GPU Inductor calls cuDNN without a bias, and adds it in the kernel that follows."""
    graph = Graph(lambda x, w, b: torch.relu(aten.convolution(x, w, b, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)),
                  (1, 3, 8, 8), (4, 3, 3, 3), (4,))  # fmt: skip
    graph.library("aten::convolution", [graph.buffer("x_1"), graph.buffer("w_1")], "convolution")
    fused = graph.generated([graph.buffer("convolution"), graph.buffer("b_1")], [graph.buffer("relu")])
    assert graph.parts(fused) == [("aten::add", [[1, 4, 6, 6], [4]]), ("aten::relu", [[1, 4, 6, 6]])]
    alone = graph.generated([graph.buffer("convolution"), graph.buffer("b_1")], [graph.buffer("convolution", exact=False)])
    assert graph.parts(alone) == [("aten::add", [[1, 4, 6, 6], [4]])]


def test_no_bias_is_added_twice() -> None:
    graph = Graph(lambda x, w, b: torch.relu(torch.addmm(b, x, w)), (8, 4), (4, 2), (2,))
    graph.library("aten::addmm", [graph.buffer("b_1"), graph.buffer("x_1"), graph.buffer("w_1")], "addmm")
    fused = graph.generated([graph.buffer("addmm"), graph.buffer("b_1")], [graph.buffer("relu")])
    assert graph.parts(fused) == [("aten::relu", [[8, 2]])]


def test_an_operand_laid_out_anew_is_a_copy_and_not_its_operator() -> None:
    graph = Graph(lambda x, w: torch.mm(torch.exp(x), w), (8, 4), (4, 2))
    copied = Buffer("buf0", Tensor((8, 4), (1, 8), "float32", 0, 4), graph.nodes["mm"], False, True)
    before = graph.generated([graph.buffer("exp")], [copied])
    graph.library("aten::mm", [copied, graph.buffer("w_1")], "mm")
    assert graph.parts(before) == [("aten::clone", [[8, 4]])]
    fused = graph.generated([graph.buffer("x_1")], [copied])
    assert graph.parts(fused) == [("aten::exp", [[8, 4]])]
    # a template does the product itself: then another kernel holds the result
    other = Graph(lambda x, w: x @ w, (8, 4), (4, 2))
    operands = [Buffer(n, other.buffer(f"{n}_1").tensor, other.nodes["mm"], False, True) for n in ("x", "w")]
    first = other.generated([other.buffer("x_1"), other.buffer("w_1")], operands)
    template = other.generated(operands, [other.buffer("mm")])
    assert [name for name, _ in other.parts(first)] == ["aten::clone", "aten::clone"]
    assert [name for name, _ in other.parts(template)] == ["aten::mm"]


def test_weights_laid_out_anew_are_a_copy_beside_the_input_that_is_computed() -> None:
    graph = Graph(lambda x, w: aten.convolution(torch.relu(x), w, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1),
                  (1, 3, 8, 8), (4, 3, 3, 3))  # fmt: skip
    weights = Buffer("buf1", Tensor((4, 3, 3, 3), (27, 1, 9, 3), "float32", 0, 4), graph.nodes["convolution"], False, True)
    fused = graph.generated([graph.buffer("x_1"), graph.buffer("w_1")], [graph.buffer("relu"), weights])
    graph.library("aten::convolution", [graph.buffer("relu"), weights], "convolution")
    assert graph.parts(fused) == [("aten::relu", [[1, 3, 8, 8]]), ("aten::clone", [[4, 3, 3, 3]])]


def test_a_piece_that_is_copied_counts_as_large_as_it_is() -> None:
    graph = Graph(lambda x, w: torch.mm(x[:4], w), (8, 4), (4, 2))
    piece = Buffer("buf0", Tensor((4, 4), (1, 4), "float32", 0, 4), graph.nodes["mm"], False, True)
    position = graph.generated([graph.buffer("x_1")], [piece])
    graph.library("aten::mm", [piece, graph.buffer("w_1")], "mm")
    assert graph.parts(position) == [("aten::clone", [[4, 4]])]


def test_both_stages_of_a_reduction_are_the_reduction() -> None:
    graph = Graph(lambda x: torch.exp(torch.sum(x)), (1000,))
    partial = Buffer("partial", Tensor((8,), (1,), "float32", 0, 4), graph.nodes["sum_1"], False)
    first = graph.generated([graph.buffer("x_1")], [partial])
    last = graph.generated([partial], [graph.buffer("sum_1")])
    assert (graph.names(first), graph.names(last)) == (["sum_1"], ["sum_1"])


def test_views_are_left_out_unless_there_is_nothing_else() -> None:
    graph = Graph(lambda x: torch.relu(x.transpose(0, 1)[None]), (4, 8))
    assert graph.parts(graph.generated([graph.buffer("x_1")], [graph.buffer("relu")])) == [("aten::relu", [[1, 8, 4]])]
    graph = Graph(lambda x: x.transpose(0, 1), (4, 8))
    assert graph.parts(graph.generated([graph.buffer("x_1")], [graph.buffer("transpose")])) == [("aten::clone", [[4, 8]])]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("extern_kernels.addmm", "aten::addmm"),
        ("extern_kernels.bias_addmm", "aten::addmm"),
        ("aten.bmm.out", "aten::bmm"),
        ("torch.ops.aten._scaled_dot_product_flash_attention.default", "aten::_scaled_dot_product_flash_attention"),
        ("torch.ops.mkldnn._linear_pointwise.default", "mkldnn::_linear_pointwise"),
        ("my_kernel", "my_kernel"),
    ],
)
def test_the_name_that_a_trace_has(code: str, name: str) -> None:
    assert _operator(code, object()) == name


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        self.again = self.first
        self.blocks = nn.ModuleList([nn.Linear(2, 2)])


@pytest.mark.parametrize(
    ("stack", "name"),
    [
        (("L['self'].first", "L['self'].first.0"), "first.0"),
        (("L['self'].again", "L['self'].first.1"), "first.1"),
        (("L['self'].blocks[0]",), "blocks.0"),
        (("L['self']._modules['blocks']._modules['0']",), "blocks.0"),
        (("L[\"self\"].blocks.0",), "blocks.0"),
        (("L['self']",), "Pair"),
        (("L['self'].gone.0",), "gone.0"),
        (("G['other'].x",), "G['other'].x"),
    ],
)  # fmt: skip
def test_the_name_of_a_module(stack: tuple[str, ...], name: str) -> None:
    model = Pair()
    assert ModulePaths(model, {"self": model}).along(stack) == name


def test_the_names_inside_a_module_that_is_compiled_by_itself() -> None:
    model = Pair()
    paths = ModulePaths(model, {"self": model.first})
    assert paths.along(("L['self'].0",)) == "first.0"
    assert paths.shared == ""  # there is one of its class
    assert ModulePaths(model, {"self": model.first[0]}).shared == "first.0"
    assert ModulePaths(model, {}).along(("L['self'].0",)) == "0"
