"""What a model is called with: one batch of images, or the arguments of an example input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from analyzer.errors import ConfigError

_FORM_HINT = "return (model, tensor), (model, (first, second)) or (model, {'name': value})"


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of one call of ``forward``. It is moved and cast like a tensor, and so are the tensors in it."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Return the tensors in the order of the arguments."""
        return tuple(_leaves((self.args, self.kwargs)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the first tensor; its first dimension is the batch."""
        return tuple(self.tensors[0].shape)

    @property
    def image_size(self) -> int | None:
        """Return height and width of the first tensor ``[N, C, H, W]``, None where they differ or there is no such tensor."""
        image = next((tensor for tensor in self.tensors if tensor.ndim == 4), None)
        return None if image is None or image.shape[2] != image.shape[3] else int(image.shape[2])

    @property
    def bytes(self) -> int:
        """Return the size of the tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)

    def to(
        self,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        memory_format: torch.memory_format | None = None,
        *,
        non_blocking: bool = False,
    ) -> Arguments:
        """Return the arguments on ``device``; only floating tensors change their ``dtype``, only images their layout."""

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            given: dict[str, Any] = {"non_blocking": non_blocking}
            given |= {"device": device} if device is not None else {}
            given |= {"dtype": dtype} if dtype is not None and tensor.is_floating_point() else {}
            given |= {"memory_format": memory_format} if memory_format is not None and tensor.ndim == 4 else {}
            return tensor.to(**given)

        return self._each(moved)

    def pin_memory(self) -> Arguments:
        """Return the arguments with their tensors in pinned memory."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Arguments:
        args, kwargs = _changed((self.args, self.kwargs), change)
        return Arguments(args, kwargs)


def example_arguments(example: object, origin: str) -> Arguments:
    """Return the arguments that an example input stands for: one tensor, a tuple, or a mapping by name.

    Raises:
        ConfigError: it is none of these, or holds no tensor with a batch dimension.
    """
    if isinstance(example, torch.Tensor):
        found = Arguments((example,))
    elif isinstance(example, tuple):
        found = Arguments(tuple(example))
    elif isinstance(example, Mapping) and all(isinstance(name, str) for name in example):
        found = Arguments((), dict(example))
    else:
        what = f"{origin} returned an example input of type {type(example).__name__}; one tensor, a tuple or a dict is needed"
        raise ConfigError(what, f"{_FORM_HINT}; one argument that is a list is (model, ([...],))")
    if not found.tensors or not found.tensors[0].ndim or not found.tensors[0].numel():
        raise ConfigError(f"the example input of {origin} does not begin with a tensor that has a batch dimension", _FORM_HINT)
    return found


def spread(forward: Callable[..., object]) -> Callable[[Arguments], object]:
    """Return ``forward`` as a function of one batch."""
    return lambda batch: forward(*batch.args, **batch.kwargs)


def _leaves(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, Mapping):
        yield from _leaves(list(value.values()))


def _changed(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_changed(inner, change) for inner in value))
    if isinstance(value, (tuple, list)):
        return type(value)(_changed(inner, change) for inner in value)
    if isinstance(value, Mapping):
        return {name: _changed(inner, change) for name, inner in value.items()}
    return value
