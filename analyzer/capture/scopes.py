"""Module names in the trace: a profiler scope ``module::<qualified path>`` around every forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import torch
from torch import nn

from analyzer.capture.naming import ModuleNames

PREFIX = "module::"


class Follower(Protocol):
    """Is told when a module begins and ends."""

    def enter(self, module: nn.Module, name: str) -> None:
        """Take note that ``module`` runs from now on."""

    def leave(self, module: nn.Module) -> None:
        """Take note that ``module`` has ended, and with it all that began after it and was left by an exception."""


class _Scopes:
    def __init__(self) -> None:
        self._open: list[tuple[int, Any]] = []

    def enter(self, module: nn.Module, name: str) -> None:
        scope = torch.profiler.record_function(PREFIX + name)
        scope.__enter__()
        self._open.append((id(module), scope))

    def leave(self, module: nn.Module) -> None:
        while self._open:
            owner, scope = self._open.pop()
            scope.__exit__(None, None, None)
            if owner == id(module):
                return

    def leave_all(self) -> None:
        while self._open:
            self._open.pop()[1].__exit__(None, None, None)

    @property
    def depth(self) -> int:
        return len(self._open)


@contextmanager
def module_scopes(model: nn.Module) -> Iterator[_Scopes]:
    """Open a scope for each module of ``model`` while it runs, named as ``ModuleNames`` names it.

    On leaving, every scope is closed and every hook removed, whatever was raised.
    """
    scopes = _Scopes()
    try:
        with followed(model, scopes):
            yield scopes
    finally:
        scopes.leave_all()


@contextmanager
def followed(model: nn.Module, follower: Follower) -> Iterator[None]:
    """Tell ``follower`` which module of ``model`` runs, while the block runs.

    What the model's own hooks do before and after a module's forward counts as that module's, as with ``weight_norm``. A module
    that takes no hooks (a ScriptModule) counts as part of the module that calls it.
    """
    calls = _Calls(model, follower)
    hooks: list[Any] = []
    changed: list[Callable[[], None]] = []
    try:
        for module in model.modules():
            if _own_call(type(module)) is not None:
                continue
            with suppress(RuntimeError):
                hooks.append(module.register_forward_pre_hook(lambda owner, _: calls.begin(owner), prepend=True))
                # always_call: also when forward raises something that a module above it catches
                hooks.append(module.register_forward_hook(lambda owner, *_: calls.end(owner), always_call=True))
        for kind in dict.fromkeys(_own_call(type(module)) for module in model.modules()):
            if kind is not None:
                changed.append(_around(kind, calls))
        yield
    finally:
        for undo in changed:
            undo()
        for hook in hooks:
            hook.remove()


def _own_call(kind: type[nn.Module]) -> type[nn.Module] | None:
    """Return the class that gives ``kind`` a ``__call__`` which need not run hooks, None where it has torch's own."""
    found = next(base for base in kind.__mro__ if "__call__" in vars(base))
    return None if found.__module__.split(".")[0] == "torch" else found


class _Calls:
    """The modules that run, outermost first, with their names."""

    def __init__(self, model: nn.Module, follower: Follower) -> None:
        self._names = ModuleNames(model)
        self._follower = follower
        self._running: list[tuple[nn.Module, str]] = []

    def begin(self, module: nn.Module) -> None:
        name = self._names.name(module, self._running)
        self._running.append((module, name))
        self._follower.enter(module, name)

    def end(self, module: nn.Module) -> None:
        if not any(running is module for running, _ in self._running):
            return
        while self._running.pop()[0] is not module:
            pass
        self._follower.leave(module)


def _around(kind: type[nn.Module], calls: _Calls) -> Callable[[], None]:
    """Follow the calls of a class by its own ``__call__``; return what undoes it."""
    own = vars(kind)["__call__"]

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        calls.begin(module)
        try:
            return own(module, *args, **kwargs)
        finally:
            calls.end(module)

    kind.__call__ = call  # type: ignore[method-assign]

    def undo() -> None:
        kind.__call__ = own  # type: ignore[method-assign]

    return undo
