"""State dicts from files: tensors alone are read, never code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from analyzer.capture.failures import first_line, is_out_of_memory
from analyzer.errors import ConfigError

_SAVE_HINT = "save the tensors alone: torch.save(model.state_dict(), FILE)"
_DAMAGED_HINT = f"the file may be cut off: copy it again; else {_SAVE_HINT}"
_FIT_HINT = "give the options and the image_size of the model that was saved; random weights take the same time"
_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training programs keep the state dict."""
_PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""
_LIGHTNING = "model."
"""What a module that trains another one has before every name, under the key that Lightning writes."""
_SHOWN, _LENGTH = 3, 80


def put_weights(model: nn.Module, file: str, name: str) -> None:
    """Load the state dict in ``file`` into ``model``, called ``name`` in messages; on the meta device shapes alone.

    Raises:
        ConfigError: the file cannot be read, holds more than tensors, or does not fit the model.
        MemoryError, RuntimeError: out of memory, as torch raises it.
    """
    label = Path(file).name
    device, own = _device_of(model), model.state_dict()
    state = _state_dict(_read(Path(file), label, device), label, set(own))
    for key, tensor in state.items():
        _check_data(key, tensor, own.get(key), label, device)
    try:
        found = model.load_state_dict(state, strict=False)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ConfigError(f"weights={label} does not fit {name}: {_mismatch(error)}", _FIT_HINT) from error
    problems = [
        f"{len(keys)} {word} ({_listed(keys)})"
        for keys, word in ((found.missing_keys, "missing"), (found.unexpected_keys, "unknown"))
        if keys
    ]
    if problems:
        raise ConfigError(f"weights={label} does not fit {name}: of its tensors are {' and '.join(problems)}", _FIT_HINT)


def _device_of(model: nn.Module) -> str:
    first = next(iter(model.parameters()), None)
    return "meta" if first is not None and first.is_meta else "cpu"


def _read(path: Path, label: str, device: str) -> Any:
    if not path.is_file():
        raise ConfigError(f"weights={label} is not a file that is there", "a path is taken from the current directory on")
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path, device)
        try:
            return torch.load(path, map_location=device, weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(path, map_location=device, weights_only=True)  # the format before torch 1.6
    except ConfigError:
        raise
    except Exception as error:  # whatever a damaged file makes of the reader
        if is_out_of_memory(error):
            raise
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code or "TorchScript" in str(error):
            what = f"it needs {_plain(code[1])}" if code else "it is a TorchScript archive"
            text = f"weights={label} holds more than tensors ({what}); such a file can run code, so it is not loaded"
            raise ConfigError(text, _SAVE_HINT) from error
        # torch's own text on the matter is a page about another way to load, which runs code
        known = "no file of tensors" if "weights only load failed" in str(error).lower() else _plain(first_line(error))
        raise ConfigError(f"weights={label} cannot be read: {known}", _DAMAGED_HINT) from error


def _read_safetensors(path: Path, device: str) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        what = f"weights={path.name} needs the package safetensors"
        raise ConfigError(what, "install it, or save with torch.save") from error
    state = load_file(path)
    return {key: tensor.to(device) for key, tensor in state.items()} if device == "meta" else state


def _check_data(key: str, tensor: Any, own: Any, label: str, device: str) -> None:
    if not isinstance(tensor, torch.Tensor):
        return
    if tensor.is_meta and device != "meta":
        raise ConfigError(f"weights={label} holds {_plain(key)} without data (on the meta device)", _SAVE_HINT)
    if tensor.is_complex() and isinstance(own, torch.Tensor) and not own.is_complex():
        raise ConfigError(f"weights={label} holds {_plain(key)} in complex numbers, the model in real ones", _FIT_HINT)


def _state_dict(found: Any, label: str, own: set[str]) -> dict[str, Any]:
    """Return the tensors of a file by the names that the model gives them: ``own``."""
    prefixes: tuple[str, ...] = _PREFIXES
    for key in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            prefixes = (*_PREFIXES, _LIGHTNING) if key == _WRAPPERS[0] else _PREFIXES
            break
    if not isinstance(found, Mapping) or not any(isinstance(value, torch.Tensor) for value in found.values()):
        keys = f" with the keys {_listed(list(map(str, found)))}" if isinstance(found, Mapping) and found else ""
        raise ConfigError(f"weights={label} holds {type(found).__name__}{keys}, not a state dict of tensors", _SAVE_HINT)
    state = {str(key): value for key, value in found.items()}
    while own.isdisjoint(state):
        prefix = next((prefix for prefix in prefixes if all(key.startswith(prefix) for key in state)), "")
        if not prefix:
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _mismatch(error: Exception) -> str:
    """Return what torch says of the first tensor that has another shape."""
    lines = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
    pattern = r"size mismatch for (.+?): .*?torch\.Size\((.*?)\).*?torch\.Size\((.*?)\)"
    found = re.match(pattern, lines[0]) if lines else None
    if found is None:
        return _plain(first_line(error))
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return f"{_plain(found[1])} is {found[2]} in the file, {found[3]} in the model{more}"


def _listed(keys: list[str]) -> str:
    return ", ".join(map(_plain, keys[:_SHOWN])) + (", ..." if len(keys) > _SHOWN else "")


def _plain(text: str) -> str:
    """Return a text out of a file as a terminal may show it."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= _LENGTH else f"{shown[: _LENGTH - 3]}..."
