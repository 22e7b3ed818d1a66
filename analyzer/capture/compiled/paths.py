"""The names of the modules that Dynamo calls by the variables of the function that it compiles."""

from __future__ import annotations

import re
import sys
from typing import Any

from torch import fx, nn

from analyzer.capture.naming import ModuleNames

_TOKENS = re.compile(r"\['([^']*)'\]|\[\"([^\"]*)\"\]|\[(\d+)\]|\.?([^.\[\]]+)")
_VARIABLE = re.compile(r"^L\[['\"](\w+)['\"]\]")


class ModulePaths:
    """Turns ``L['self'].blocks.0`` into the name that the module has in every other run: ``blocks.0``.

    ``variables`` are the modules among those of the function that is compiled: behind a graph break that may be the forward of
    a module far inside, whose ``self`` is not the model.
    """

    def __init__(self, model: nn.Module | None, variables: dict[str, nn.Module]) -> None:
        self._model, self._owner = model, None if model is None else _owner(model, variables)
        self._names = ModuleNames(model) if model is not None else None
        self._variables = variables
        self._callers: list[tuple[nn.Module, str]] = []
        self._known: dict[tuple[str, ...], str] = {}
        if model is not None and self._names is not None and self._owner is not None:
            self._callers = [(model, self._names.root)]
            if self._owner is not model:
                self._callers.append((self._owner, self._names.name(self._owner, self._callers)))

    @property
    def shared(self) -> str:
        """Return the name of the module whose forward is compiled if the same code may run for others too, else nothing.

        Behind a graph break each block's forward is compiled by itself, and torch runs what it made of one for the next.
        """
        if self._owner is None or self._model is None or self._owner is self._model:
            return ""
        alike = [module for module in self._model.modules() if type(module) is type(self._owner)]
        return self._callers[-1][1] if len(alike) > 1 else ""

    def of(self, node: fx.Node) -> str | None:
        """Return the name of the module that called a node; None where the node does not tell of where it comes from."""
        stack = node.meta.get("nn_module_stack")
        if stack:
            return self.along(tuple(str(entry[0]) for entry in stack.values()))
        if node.meta.get("source_fn_stack") or node.meta.get("stack_trace"):
            return self._callers[-1][1] if self._callers else None
        return None

    def along(self, stack: tuple[str, ...]) -> str:
        """Return the name of the last of nested calls, each by Dynamo's name of the module, outermost first.

        Where that leads to no module of the model, it is Dynamo's own without the variable.
        """
        if stack not in self._known:
            self._known[stack] = self._along(stack)
        return self._known[stack]

    def _along(self, stack: tuple[str, ...]) -> str:
        callers = list(self._callers)
        found: nn.Module | None = None
        for called in stack:
            found = self._module(called)
            if found is not None and self._names is not None and found is not (callers[-1][0] if callers else None):
                callers.append((found, self._names.name(found, callers)))
        return callers[-1][1] if callers and found is not None else _VARIABLE.sub("", stack[-1]).removeprefix(".")

    def _module(self, called: str) -> nn.Module | None:
        variable = _VARIABLE.match(called)
        if variable is None:
            return None
        found: Any = self._variables.get(variable[1])
        for token in _TOKENS.finditer(called[variable.end() :]):
            found = _member(found, next(part for part in token.groups() if part is not None))
        return found if isinstance(found, nn.Module) else None


def _owner(model: nn.Module, variables: dict[str, nn.Module]) -> nn.Module | None:
    inside = {id(module) for module in model.modules()}
    return next((value for value in variables.values() if id(value) in inside), None)


def _member(value: Any, name: str) -> Any:
    """Return an attribute or an entry; what holds entries answers to their number or key as well."""
    if isinstance(value, nn.Module):
        return value._modules.get(name) or value.__dict__.get(name)
    if isinstance(value, dict):
        return value.get(name)
    if isinstance(value, list | tuple) and name.isdigit() and int(name) < len(value):
        return value[int(name)]
    return None


def compiled_variables() -> dict[str, nn.Module]:
    """Return the modules among the variables of the function that Dynamo is compiling, the innermost; none where it is not.

    Dynamo keeps the frame of that function in a local variable called ``frame``.
    """
    caller: Any = sys._getframe(1)
    while caller is not None:
        frame = caller.f_locals.get("frame") if "convert_frame" in caller.f_code.co_filename else None
        if frame is not None and hasattr(frame, "f_locals") and hasattr(frame, "f_code"):
            return {name: value for name, value in frame.f_locals.items() if isinstance(value, nn.Module)}
        caller = caller.f_back
    return {}
