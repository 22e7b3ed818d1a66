"""The hook: Inductor tells of every call of a kernel as it writes the code, and the last word is ``compiled.json.gz``."""

from __future__ import annotations

import gzip
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from analyzer.capture.compiled import parts
from analyzer.capture.compiled.lowered import Lowered, generated_call, library_call
from analyzer.capture.compiled.paths import ModulePaths, compiled_variables
from analyzer.capture.compiled.sources import Sources
from analyzer.capture.privacy import masked_text

COMPILED_FORMAT_VERSION = 1
_HOOK = "set_kernel_post_grad_provenance_tracing"
"""What Inductor calls once for each call of a kernel that it writes, to note where the kernel comes from."""

_WRITERS = ("codegen.cpp", "codegen.triton", "codegen.simd", "codegen.wrapper", "debug", "utils", "ir", "scheduler")
"""Modules below ``torch._inductor`` that take the hook over by name when they are imported."""


def _counted() -> tuple[int, int]:
    """Return how many graphs Dynamo has made in this process, and how often it broke one."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"]), int(sum(counters["graph_break"].values()))


@dataclass
class Recorder:
    """What was told of the graphs that were compiled so far. ``model`` is the one whose modules get paths."""

    model: nn.Module | None
    sources: Sources = field(default_factory=Sources)
    notes: list[str] = field(default_factory=list)
    _graphs: list[Lowered] = field(default_factory=list)
    _listening: bool = True
    _before: tuple[int, int] = field(default_factory=_counted)

    def objection(self, mode: str) -> tuple[str, bool]:
        """Return what is to be told of ``compile=mode`` once the model ran, empty if all is well, and if anything was made.

        Dynamo also counts the graphs of which nothing is told.
        """
        graphs, breaks = (now - before for now, before in zip(_counted(), self._before, strict=True))
        if not (graphs or self._graphs or self.notes):
            return f"compile={mode} was asked for, and nothing was compiled: all of it ran eagerly", False
        if breaks <= 0:
            return "", True
        told = f"compile={mode}: Dynamo counted {breaks} graph break{'s' if breaks > 1 else ''}"
        return f"{told}, where code runs eagerly between graphs (TORCH_LOGS=graph_breaks says where)", True

    def told(self, what: Any, kernel: str, is_extern: bool) -> None:
        """Note one call of a kernel. What goes wrong is a note: the compiler must not stumble over it."""
        if not self._listening:
            return
        try:
            self._tell(what, kernel, is_extern)
        except Exception as error:  # noqa: BLE001 - whatever torch changes there must not cost the run
            self._note(f"a kernel could not be read: {type(error).__name__}: {error}")

    def _tell(self, what: Any, kernel: str, is_extern: bool) -> None:
        from torch._inductor.virtualized import V

        lowering: Any = V.graph
        if getattr(lowering, "is_const_graph", False):
            return  # runs once, as it is compiled
        if not self._graphs or self._graphs[-1].graph is not lowering.graph:
            paths = ModulePaths(self.model, compiled_variables())
            self._graphs.append(Lowered(lowering.graph, paths))
            if paths.shared and not any(_SHARED in note for note in self.notes):
                self._note(f"{_SHARED}, such as {paths.shared}, and may run for others of its class, under the same name")
        graph = self._graphs[-1]
        call = library_call(kernel, what, graph, lowering) if is_extern else generated_call(kernel, what, graph, lowering)
        graph.calls.append(call)

    def _note(self, text: str) -> None:
        shown = masked_text(text)[:_LONGEST_NOTE]
        if shown not in self.notes and len(self.notes) < _MOST_NOTES:
            self.notes.append(shown)

    def forget(self) -> None:
        """Listen no more, and hold nothing of the model any longer."""
        self._listening = False
        self._graphs.clear()
        self.model = None

    def write(self, path: Path) -> int:
        """Write ``compiled.json.gz``, forget what was recorded, and listen no more; return the number of calls written."""
        graphs = []
        for lowered in self._graphs:
            try:
                graphs.append({"calls": parts.rows(lowered, self.sources.found)})
            except Exception as error:  # noqa: BLE001 - likewise
                self._note(f"a graph could not be read: {type(error).__name__}: {error}")
        self.forget()
        if self.sources.failures:
            what = "operators that torch took apart could not be read, and stand as what they became"
            self._note(f"{self.sources.failures} {what}")
        if not graphs and not self.notes:
            self._note(f"torch {torch.__version__} tells nothing of the kernels that torch.compile makes")
        document = {
            "format_version": COMPILED_FORMAT_VERSION,
            "torch": str(torch.__version__),
            "note": "; ".join(self.notes),
            "graphs": graphs,
        }
        path.write_bytes(gzip.compress(msgspec.json.encode(document), compresslevel=6, mtime=0))
        return sum(len(graph["calls"]) for graph in graphs)


_SHARED = "there are graph breaks: code is compiled for one module"
_MOST_NOTES, _LONGEST_NOTE = 5, 300


@contextmanager
def recording(model: nn.Module) -> Iterator[Recorder]:
    """Record what torch.compile makes of ``model`` in the block.

    Nothing is taken from its cache of finished graphs on disk: where that has one, no code is made, and nothing is told.
    """
    from torch._inductor import config

    recorder = Recorder(model)
    with ExitStack() as stack:
        stack.callback(recorder.forget)
        stack.enter_context(config.patch(fx_graph_cache=False))
        stack.enter_context(recorder.sources.watched())
        stack.enter_context(_hooked(recorder))
        yield recorder


@contextmanager
def _hooked(recorder: Recorder) -> Iterator[None]:
    spies: dict[int, Callable[..., Any]] = {}
    try:
        for module in _modules():
            original = getattr(module, _HOOK, None)
            if callable(original) and id(original) not in spies:
                spy = _spy(original, recorder)
                setattr(module, _HOOK, spy)
                spies[id(spy)] = original
        yield
    finally:
        for module in _loaded():  # one that was loaded in the block may have taken a spy over by name
            original = spies.get(id(getattr(module, _HOOK, None)))
            if original is not None:
                setattr(module, _HOOK, original)


def _modules() -> list[Any]:
    for name in _WRITERS:
        try:
            importlib.import_module(f"torch._inductor.{name}")
        except Exception:  # noqa: BLE001 - of another version of torch, or one that lacks what it needs
            continue
    return _loaded()


def _loaded() -> list[Any]:
    return [module for name, module in list(sys.modules.items()) if name.startswith("torch._inductor") and module is not None]


def _spy(original: Callable[..., Any], recorder: Recorder) -> Callable[..., Any]:
    def told(what: Any, kernel: str, is_extern: bool = False, **more: Any) -> Any:
        recorder.told(what, kernel, is_extern)
        return original(what, kernel, is_extern=True, **more) if is_extern else original(what, kernel, **more)

    return told
