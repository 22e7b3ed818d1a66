"""Module names in the trace: a profiler scope ``module::<qualified path>`` around every forward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

PREFIX = "module::"


class _Scopes:
    def __init__(self) -> None:
        self._open: list[tuple[int, Any]] = []

    def enter(self, module: nn.Module, name: str) -> None:
        scope = torch.profiler.record_function(name)
        scope.__enter__()
        self._open.append((id(module), scope))

    def leave(self, module: nn.Module) -> None:
        """Close the scopes down to that of ``module``: one that an exception left open goes with it."""
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
    """Open a scope for each module of ``model`` while it runs; the root has its class name for a path.

    A module used in several places has the first of its paths. On leaving, every scope is closed and every hook
    removed, whatever was raised.
    """
    scopes = _Scopes()
    hooks: list[Any] = []

    def attach(module: nn.Module, name: str) -> None:
        hooks.append(module.register_forward_pre_hook(lambda owner, _: scopes.enter(owner, name)))
        # always_call: also when forward raises something that a module above it catches
        hooks.append(module.register_forward_hook(lambda owner, *_: scopes.leave(owner), always_call=True))

    try:
        for path, module in model.named_modules():
            attach(module, PREFIX + (path or type(model).__name__))
        yield scopes
    finally:
        for hook in hooks:
            hook.remove()
        scopes.leave_all()
