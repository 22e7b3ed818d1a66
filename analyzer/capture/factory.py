"""One's own model: finds the function that ``factory=package.module:function`` names, calls it, and says what went wrong.

Nothing of it runs unless a model of a factory is to be built.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import importlib
import inspect
import operator
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from analyzer.capture.failures import first_line, is_out_of_memory
from analyzer.capture.process_state import put_back, taken
from analyzer.capture.torchvision_shim import prepare_torchvision
from analyzer.errors import AnalyzerError, ConfigError
from analyzer.schema.settings import ModelChoice

FORM_HINT = "write factory=package.module:function; the current directory is searched too"
EXAMPLE_HINT = "where forward takes anything but one image tensor, let the factory return (model, example_input)"
DEVICE_HINT = "leave the device to this program: move nothing in the factory, and make tensors in forward with device=x.device"
SIZES = ("batch_size", "image_size")
"""Settings that a factory is given where it has parameters of these names."""

_set_on_import: dict[str, dict[str, Any]] = {}
"""What a module set in the process when it was imported: it is imported once, and each of its models is to meet the same."""
_handed_out: weakref.WeakValueDictionary[int, nn.Module] = weakref.WeakValueDictionary()


def make(choice: ModelChoice, sizes: tuple[int, int]) -> object:
    """Return what the factory of ``choice`` returns; ``sizes`` are (batch size, image size).

    A module that the factory handed out before is copied, so that a run changes nothing about the next one.

    Raises:
        ConfigError: there is no such factory, it does not take the options, or it fails.
    """
    path = str(choice.factory)
    function = load(path)
    if isinstance(function, nn.Module):
        return _own_copy(function)
    arguments = _arguments(function, choice, sizes)
    try:
        with own_code():
            made = function(**arguments)
    except SystemExit as error:
        raise ConfigError(f"the factory {path} ended the program: sys.exit({error.code})", "let it return the model") from error
    except AnalyzerError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        text = f"the factory {path} raised {type(error).__name__}: {first_line(error)}"
        hint = DEVICE_HINT if "cuda" in str(error).lower() else f"check the factory and {choice.family}.options="
        raise ConfigError(text, _missing(error) or hint) from error
    if isinstance(made, nn.Module):
        return _own_copy(made)
    if isinstance(made, tuple) and made and isinstance(made[0], nn.Module):
        return (_own_copy(made[0]), *made[1:])
    return made


def _own_copy(model: nn.Module) -> nn.Module:
    if _handed_out.get(id(model)) is not model:
        _handed_out[id(model)] = model
        return model
    return copy.deepcopy(model)


def load(path: str) -> Any:
    """Return what ``package.module:name`` names: something to call, or a module of torch that is there already.

    Raises:
        ConfigError: it is not there, or its module cannot be imported.
    """
    module_name, _, name = path.partition(":")
    words = (*module_name.split("."), *name.split("."))
    is_file = module_name.endswith(".py") and Path(module_name).is_file()
    if is_file or not all(word.isidentifier() for word in words):
        hint = (
            f"write factory={'.'.join(Path(module_name).with_suffix('').parts)}:{name or 'function'}" if is_file else FORM_HINT
        )
        raise ConfigError(f"factory={path} is not of the form package.module:function", hint)
    _refuse_standard_library(module_name, path)
    module = _imported(module_name, path)
    _refuse_other_file(module, module_name)
    try:
        found = operator.attrgetter(name)(module)
    except AttributeError:
        found = None
    if not callable(found):
        near = difflib.get_close_matches(name, [key for key, value in vars(module).items() if callable(value)], n=3)
        hint = f"did you mean {' or '.join(f'{module_name}:{word}' for word in near)}?" if near else FORM_HINT
        raise ConfigError(f"{module_name} has no function {name}", hint)
    return found


def _imported(module_name: str, path: str) -> ModuleType:
    prepare_torchvision()  # models may import it, and timm, which does
    try:
        before = taken()
        with own_code():
            module = importlib.import_module(module_name)
        after = taken()
        put_back(_set_on_import.setdefault(module_name, {name: v for name, v in after.items() if v != before.get(name)}))
        return module
    except SystemExit as error:
        text = f"importing {module_name} of factory={path} ended the program: sys.exit({error.code})"
        raise ConfigError(text, 'let what is no part of the model run only if __name__ == "__main__"') from error
    except Exception as error:
        text = f"cannot import {module_name} of factory={path}: {type(error).__name__}: {first_line(error)}"
        hint = FORM_HINT if isinstance(error, ModuleNotFoundError) else f"python -c 'import {module_name}' shows more"
        raise ConfigError(text, _missing(error, module_name) or hint) from error


def _missing(error: Exception, module_name: str = "") -> str:
    """Return the hint where a package is not installed, nothing for other errors and where it is ``module_name`` itself."""
    name = _top(error.name or "") if isinstance(error, ModuleNotFoundError) else ""
    return f"install what the model needs into this environment: {name}" if name not in ("", _top(module_name)) else ""


def _top(module_name: str) -> str:
    return module_name.partition(".")[0]


def _refuse_standard_library(module_name: str, path: str) -> None:
    top = _top(module_name)
    if top not in sys.stdlib_module_names:
        return
    if _local_file(top) is None:
        raise ConfigError(f"factory={path} names Python's own module {top}, which makes no models", FORM_HINT)
    raise ConfigError(f"{top} here has the name of one of Python's own modules, which would be loaded instead", "rename it")


def _refuse_other_file(module: ModuleType, module_name: str) -> None:
    """Refuse a module that was loaded from elsewhere although the current directory has one of that name."""
    here, loaded = _local_file(module_name), getattr(module, "__file__", None)
    if here is not None and (loaded is None or Path(loaded).resolve() != here.resolve()):
        what = f"{here.name} is not what {module_name} names: an installed package of that name is loaded already"
        raise ConfigError(what, "rename the file or its directory")


def _local_file(module_name: str) -> Path | None:
    base = Path.cwd().joinpath(*module_name.split("."))
    return next((path for path in (base.with_name(f"{base.name}.py"), base / "__init__.py") if path.is_file()), None)


@contextlib.contextmanager
def own_code() -> Iterator[None]:
    """Run the block with the current directory searched first for modules; afterwards it is searched last.

    What the block prints goes to stderr: stdout is for the results of this program. A block that changes the current directory
    changes it for itself alone: relative paths of the settings are meant from where the program was started.
    """
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.chdir(here)
        if added and here in sys.path:
            sys.path.remove(here)
            sys.path.append(here)  # a forward may import as well; nothing of ours is to be found there first


def _arguments(function: Callable[..., object], choice: ModelChoice, sizes: tuple[int, int]) -> dict[str, Any]:
    """Return the options, and the sizes where the function names them.

    Raises:
        ConfigError: the function needs more, or does not take an option.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return dict(choice.options)  # of a function in C nothing is known
    keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = {name for name, parameter in signature.parameters.items() if parameter.kind in keyword}
    given = {name: value for name, value in zip(SIZES, sizes, strict=True) if name in named} | choice.options
    try:
        signature.bind(**given)
    except TypeError as error:
        hint = f"give arguments as +{choice.family}.options.NAME=VALUE; batch_size and image_size are given by themselves"
        raise ConfigError(f"the factory {choice.factory} cannot be called: {first_line(error)}", hint) from error
    return given
