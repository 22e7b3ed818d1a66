"""Runs a model on torch's meta device: shapes without memory or time. Checks a choice, counts, and lists operators."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from analyzer.capture.arguments import Arguments, spread
from analyzer.capture.factory import EXAMPLE_HINT, load
from analyzer.capture.failures import explain, first_line, is_out_of_memory
from analyzer.capture.presets import DTYPES, dtype_name
from analyzer.capture.scopes import followed
from analyzer.capture.workload import Built, build, channels, check_name, display_name, own_failures
from analyzer.errors import AnalyzerError, ConfigError, UnsupportedError
from analyzer.schema.settings import CaptureSettings, ModelChoice

# What torch says when code needs the values that a meta tensor does not have. That is no fault of the model.
_NEEDS_DATA = ("meta tensor", "on meta", "device meta", "same device", "aten::_local_scalar_dense", "datadependent")


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a meta forward tells. ``reason`` is empty, or says why the model could not run on meta.

    ``largest_op_bytes``: memory of the tensors that the most demanding operator needs at one time. ``shape`` is that of the
    first input, and ``image_size`` the height and width of its images, None where they differ or there are none;
    ``is_example``: a factory gave the input with its model.
    """

    parameters: int
    shape: tuple[int, ...]
    image_size: int | None
    is_example: bool = False
    parameter_bytes: int = 0
    input_bytes: int = 0
    largest_op_bytes: int = 0
    ops: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""

    @property
    def batch_size(self) -> int:
        """Return the number of inputs of one call."""
        return self.shape[0]


def parameters(choice: ModelChoice, image_size: int) -> int:
    """Return the number of parameters of the model built for ``image_size``, without allocating them.

    Raises:
        ConfigError: the model cannot be built, or only with real data.
    """
    with _explained(choice):
        return _count(_built(choice, 1, image_size).model)


def record_ops(choice: ModelChoice, batch_size: int, image_size: int, dtype: str) -> list[dict[str, Any]]:
    """Return the operators of one forward pass as ``ops.json.gz`` has them, from a run on the meta device.

    They are the leaf operators as dispatched; scaled_dot_product_attention is one of them, not its decomposition. Each has
    besides, under ``module``, the name of the innermost module that ran it; the root has its class name.

    Raises:
        ConfigError: the model cannot take the input, or needs data to run.
    """
    return recorded(choice, batch_size, image_size, dtype).ops


def recorded(choice: ModelChoice, batch_size: int, image_size: int, dtype: str) -> Inspection:
    """Return what ``inspect`` does, with the operators for certain.

    Raises:
        ConfigError: the model cannot take the input, or needs data to run.
    """
    found = inspect(choice, batch_size, image_size, dtype)
    if found.reason:
        raise ConfigError(f"{display_name(choice)} cannot run without data: {found.reason}", "record a run instead")
    return found


def inspect(choice: ModelChoice, batch_size: int, image_size: int, dtype: str) -> Inspection:
    """Return what a forward pass on meta tells about ``choice``; allocates nothing, unless a factory makes data.

    Raises:
        ConfigError: no such model, or one that cannot take an input of this shape.
    """
    check_name(choice)
    recorder = _Recorder()
    built: Built | None = None
    shape = (batch_size, channels(choice), image_size, image_size)
    try:
        with _explained(choice), own_failures(choice):
            built = _built(choice, batch_size, image_size)
            model = _emptied(built.model).to(DTYPES[dtype_name(dtype)])
            batch = built.example or Arguments((torch.empty(shape, device="meta"),))
            batch = batch.to(device="meta", dtype=DTYPES[dtype_name(dtype)])
        given = "its example input" if built.example else f"images {list(shape)}"
        with _explained(choice, given), own_failures(choice):
            _call(choice, model, batch, recorder)
    except _NeedsDataError as error:
        reason = str(error)
        if built is None:  # the factory makes data, so it takes data to learn what it makes
            with _explained(choice), own_failures(choice):
                built = build(choice, batch_size, image_size)
        return Inspection(_count(built.model), *_input(built, shape), reason=reason)
    sizes = [t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())]
    return Inspection(_count(model), *_input(built, shape), sum(sizes), batch.bytes, recorder.largest_bytes, recorder.ops)


def _call(choice: ModelChoice, model: nn.Module, batch: Arguments, recorder: _Recorder) -> None:
    # a tensor that one's own forward makes without a device is on the CPU in a run on the CPU
    device = torch.device("meta") if choice.factory else nullcontext()
    # not inference_mode: there a dispatch mode sees linear and conv2d whole instead of the operators they call
    modes = (torch.no_grad(), device, _refuse_cropping(model, display_name(choice)), followed(model, recorder))
    with ExitStack() as stack:
        for mode in (*modes, recorder, _Attention(recorder)):
            stack.enter_context(mode)
        result = spread(model)(batch)
    if isinstance(result, (Iterator, Awaitable)):
        what = f"forward of {display_name(choice)} returns a {type(result).__name__}, so calling it runs nothing"
        raise ConfigError(what, "return the tensors themselves")


def _input(built: Built, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int | None, bool]:
    if built.example is None:
        return shape, shape[-1], False
    return built.example.shape, built.example.image_size, True


def check_sizes(found: Inspection, choice: ModelChoice, asked: CaptureSettings) -> None:
    """Check that sizes which were set are those of the example input, if there is one.

    Raises:
        UnsupportedError: they are not.
    """
    for name, wanted, has in (
        ("batch_size", asked.batch_size, found.batch_size),
        ("image_size", asked.image_size, found.image_size),
    ):
        if found.is_example and wanted is not None and wanted != has:
            what = f"{name}={wanted} is not that of the example input of {choice.factory}, whose shape is {list(found.shape)}"
            hint = f"leave {name}= away, or let the factory take a parameter {name} and make the input with it"
            raise UnsupportedError(what, hint)


class _NeedsDataError(ConfigError):
    """The model reads values of tensors, so meta cannot run it."""


@contextmanager
def _explained(choice: ModelChoice, given: str = "") -> Iterator[None]:
    """Explain what is raised while ``choice`` is built, or called with what ``given`` says."""
    name = display_name(choice)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (AnalyzerError, Exception) as error:
        text = f"{type(error).__name__} {error}".lower()
        if any(mark in text for mark in _NEEDS_DATA):
            raise _NeedsDataError(first_line(error), "record a run instead") from error
        if isinstance(error, AnalyzerError) or is_out_of_memory(error):
            raise explain(error, name, "cpu", "float32") from error
        if choice.factory:
            what = f"{name} failed{f' when called with {given}' if given else ''}: {type(error).__name__}: {first_line(error)}"
            raise ConfigError(what, EXAMPLE_HINT) from error
        if isinstance(error, (RuntimeError, AssertionError, ValueError)):
            raise UnsupportedError(f"{name} cannot take this input: {first_line(error)}", _SIZE_HINT) from error
        raise explain(error, name, "meta", "float32") from error


_SIZE_HINT = "choose another image_size or batch_size; 224 suits most models"


def _built(choice: ModelChoice, batch_size: int, image_size: int) -> Built:
    if choice.factory:
        load(choice.factory)  # imported out here, what its module makes has data
    with torch.device("meta"):
        return build(choice, batch_size, image_size)


def _emptied(model: nn.Module) -> nn.Module:
    """Return ``model`` on meta: itself, or a copy where a factory gave it data, which must stay as they are."""
    tensors = [*model.parameters(), *model.buffers()]
    if all(tensor.is_meta for tensor in tensors):
        return model
    # to a deep copy these seem copied already, so that it copies no data
    memo: dict[int, Any] = {}
    for tensor in tensors:
        empty = tensor.detach().to("meta")
        memo[id(tensor)] = nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise _NeedsDataError(f"it cannot be copied: {first_line(error)}", "record a run instead") from error


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@contextmanager
def _refuse_cropping(model: nn.Module, name: str) -> Iterator[None]:
    """Refuse an image that is no whole number of patches: timm would drop its last rows and columns silently."""

    def check(module: nn.Module, args: tuple[Any, ...]) -> None:
        if not args or not isinstance(args[0], torch.Tensor) or args[0].ndim != 4:
            return
        size = module.patch_size
        patch = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
        if len(patch) != 2 or not all(isinstance(side, int) and side > 0 for side in patch):
            return  # of one's own model anything may be called so
        height, width = args[0].shape[-2:]
        if height % patch[0] or width % patch[1]:
            near = max(1, round(height / patch[0])) * patch[0]
            raise UnsupportedError(
                f"{name} cuts images into {patch[0]} px patches, and {height} px is not a multiple of that",
                f"use image_size={near}",
            )

    hooks = [
        module.register_forward_pre_hook(check)
        for module in model.modules()
        if hasattr(module, "patch_size")
        and isinstance(projection := getattr(module, "proj", None), nn.Conv2d)
        and projection.kernel_size == projection.stride
        and not getattr(module, "dynamic_img_pad", False)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Recorder(TorchDispatchMode):
    """Writes down every dispatched operator. Storages are held, so that their numbers stay unique."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[dict[str, Any]] = []
        self.largest_bytes = 0
        self._storages: dict[int, tuple[int, Any]] = {}
        self._running: list[tuple[int, str]] = []

    def enter(self, module: nn.Module, path: str) -> None:
        """Name the module that runs from now on."""
        self._running.append((id(module), path))

    def leave(self, module: nn.Module) -> None:
        """Forget ``module`` and what an exception left running inside it."""
        while self._running and self._running.pop()[0] != id(module):
            pass

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func.namespace == "aten":
            given = [
                args[i] if i < len(args) else kwargs.get(argument.name, argument.default_value)
                for i, argument in enumerate(func._schema.arguments)
            ]
            outputs = list(result) if isinstance(result, tuple) else [result]
            self.add(func._schema.name, given, outputs)
        return result

    def add(self, name: str, inputs: list[Any], outputs: list[Any]) -> None:
        """Append one operator."""
        held: dict[int, int] = {}
        self.ops.append(
            {
                "name": name,
                "inputs": [self._argument(value, held) for value in inputs],
                "outputs": [self._argument(value, held) for value in outputs],
                "module": self._running[-1][1] if self._running else "",
            }
        )
        self.largest_bytes = max(self.largest_bytes, sum(held.values()))

    def _argument(self, value: Any, held: dict[int, int]) -> dict[str, Any]:
        if isinstance(value, torch.Tensor):
            return self._tensor(value, held)
        if isinstance(value, (list, tuple)):
            if any(isinstance(item, torch.Tensor) for item in value):
                return {"tensors": [self._tensor(item, held) for item in value if isinstance(item, torch.Tensor)]}
            return {"value": [_plain(item) for item in value]}
        return {"value": _plain(value)}

    def _tensor(self, tensor: torch.Tensor, held: dict[int, int]) -> dict[str, Any]:
        storage = tensor.untyped_storage()
        number, _ = self._storages.setdefault(storage._cdata, (len(self._storages) + 1, storage))
        held[number] = storage.nbytes()
        return {
            "shape": list(tensor.shape),
            "stride": list(tensor.stride()),
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "storage": number,
            "offset": tensor.storage_offset(),
            "itemsize": tensor.element_size(),
        }


class _Attention(TorchFunctionMode):
    """Records scaled_dot_product_attention as one operator. The meta device has only its decomposition."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
        given: dict[str, Any] = {
            "attn_mask": None,
            "dropout_p": 0.0,
            "is_causal": False,
            "scale": None,
            "enable_gqa": False,
        }
        given |= dict(zip(names, args, strict=False)) | kwargs
        query, value = given["query"], given["value"]
        shape = (*query.shape[:-1], value.shape[-1])
        with torch._C.DisableTorchFunction(), torch.utils._python_dispatch._disable_current_modes():
            if len(shape) == 4:  # the fused kernels write [batch, token, head, channel]
                batch, heads, tokens, width = shape
                result = torch.empty((batch, tokens, heads, width), dtype=query.dtype, device=query.device).transpose(1, 2)
            else:
                result = torch.empty(shape, dtype=query.dtype, device=query.device)
        self._recorder.add("aten::scaled_dot_product_attention", [given[name] for name in names], [result])
        return result


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value).removeprefix("torch.")
