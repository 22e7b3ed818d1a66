"""The operators of the model that a compiler takes apart, with their arguments, noted as it does so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from analyzer.capture.compiled.tensors import arguments, described, outputs

_PLACE = "maybe_handle_decomp"
"""What torch.fx asks, in every version since 2.1, to take an operator apart."""

SOURCE = "analyzer_source"
NODE = "analyzer_node"
"""Marks in the ``meta`` of a node, which copies of the graph keep: the number of its operator, and its own."""


@dataclass(frozen=True, slots=True)
class Source:
    """One operator that was taken apart. A tensor stands with the number of its node, None where it has none."""

    name: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]


@dataclass
class Sources:
    """Every operator taken apart so far."""

    found: list[Source] = field(default_factory=list)
    failures: int = 0
    _nodes: int = 0
    _inside: bool = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note what is taken apart in the block. A torch that has no such place notes nothing."""
        from torch.fx.experimental import proxy_tensor

        original: Callable[..., Any] | None = getattr(proxy_tensor, _PLACE, None)
        if original is None:
            yield
            return

        def watch(mode: Any, operator: Any, args: Any, kwargs: Any) -> Any:
            if self._inside:  # a part of a part belongs to the whole
                return original(mode, operator, args, kwargs)
            return self._watch(original, mode, operator, args, kwargs)

        setattr(proxy_tensor, _PLACE, watch)
        try:
            yield
        finally:
            setattr(proxy_tensor, _PLACE, original)

    def _watch(self, original: Callable[..., Any], mode: Any, operator: Any, args: Any, kwargs: Any) -> Any:
        before = self._count(mode)
        self._inside = True
        try:
            result = original(mode, operator, args, kwargs)
        finally:
            self._inside = False
        if result is not NotImplemented and before is not None:
            try:
                self._note(mode.tracer, before, operator, args, kwargs, result)
            except Exception:  # noqa: BLE001 - whatever torch changes there must not cost the run
                self.failures += 1
        return result

    def _count(self, mode: Any) -> int | None:
        graph = getattr(getattr(mode, "tracer", None), "graph", None)
        return len(graph.nodes) if isinstance(graph, fx.Graph) else None

    def _note(self, tracer: Any, before: int, operator: Any, args: Any, kwargs: Any, result: Any) -> None:
        def row(value: Any) -> dict[str, Any] | None:
            tensor = described(value)
            return None if tensor is None else tensor.row(self._number(tracer, value))

        number = len(self.found)
        made = len(tracer.graph.nodes) - before
        self.found.append(
            Source(
                operator.name().split(".")[0],
                arguments(operator, args, kwargs, row),
                outputs(result, row),
            )
        )
        for node, _ in zip(reversed(tracer.graph.nodes), range(made), strict=False):
            node.meta[SOURCE] = number

    def _number(self, tracer: Any, value: torch.Tensor) -> int | None:
        """Return the number of the node that a tensor is the value of; it is given one if it has none."""
        from torch.fx.experimental.proxy_tensor import get_proxy_slot

        found: Any = get_proxy_slot(value, tracer, None)
        node = getattr(getattr(found, "proxy", found), "node", None)
        if node is None:
            return None
        if NODE not in node.meta:
            self._nodes += 1
            node.meta[NODE] = self._nodes
        return int(node.meta[NODE])
