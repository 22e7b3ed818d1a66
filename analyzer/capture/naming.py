"""The names of modules: the path by which a module was called, so that a module used in several places has a name for each."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


class ModuleNames:
    """Names for the modules of one model while they call each other.

    A module is named after the innermost calling module that holds it: the caller's name and the first path from there. Where
    nothing is shared that is its path from the root. A module that two blocks share has a name in each block. One that its own
    caller holds twice, as ``self.a = self.b = nn.Linear(...)``, has the first of its names, because a call does not tell by
    which of them it was made. The root's name is its class.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.root = type(model).__name__
        self._below: dict[int, dict[int, str]] = {}
        self._known: dict[tuple[int, str, int], str] = {}

    def name(self, module: nn.Module, callers: Sequence[tuple[nn.Module, str]]) -> str:
        """Return the name of ``module``, called by the last of ``callers``: modules with their names, outermost first."""
        if callers:
            key = (id(callers[-1][0]), callers[-1][1], id(module))
            if key not in self._known:
                self._known[key] = self._name(module, callers)
            return self._known[key]
        return self._name(module, callers)

    def _name(self, module: nn.Module, callers: Sequence[tuple[nn.Module, str]]) -> str:
        if module is self._model:
            return self.root
        for caller, name in reversed(callers):
            if caller is module:
                return name  # it calls itself: its name must not grow
            path = self._paths(caller).get(id(module))
            if path is not None:
                return path if caller is self._model else f"{name}.{path}"
        return self._paths(self._model).get(id(module), type(module).__name__)

    def _paths(self, module: nn.Module) -> dict[int, str]:
        found = self._below.get(id(module))
        if found is None:
            found = {id(inner): path for path, inner in module.named_modules()}
            self._below[id(module)] = found
        return found
