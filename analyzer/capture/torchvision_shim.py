"""Lets timm load where torchvision was built for another torch: the only place that works around it.

timm imports torchvision for a few helpers and never calls its compiled operators. A CPU torch beside a
torchvision built for CUDA fails at import with ``operator torchvision::nms does not exist``: the library that would
define the operators cannot be loaded. Declaring them (without kernels) is enough for the Python part.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import torch

_OPERATORS = ("nms", "qnms")  # what torchvision 0.28 registers shape functions for
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept: list[torch.library.Library] = []  # a library that is collected takes its operators with it


def prepare_torchvision() -> bool:
    """Make a later ``import torchvision`` work; return whether the operators had to be declared.

    It is not imported here: that takes more than a second, and most models of one's own never do it.
    """
    if "torchvision" in sys.modules or torch.version.cuda is not None:
        return False
    spec = importlib.util.find_spec("torchvision")
    folders = spec.submodule_search_locations if spec else None
    library = Path(folders[0], "_C.so") if folders else None
    if library is None or not library.is_file():
        return False
    try:
        torch.ops.load_library(str(library))
    except OSError:
        _declare()
        return True
    return False


def ensure_torchvision() -> bool:
    """Import torchvision; return whether the operators had to be declared.

    Never active on a torch with CUDA: there a failing torchvision is a broken installation, and its own error is shown.

    Raises:
        RuntimeError: torchvision fails for another reason.
        ImportError: torchvision is not installed.
    """
    if "torchvision" in sys.modules:
        return False
    declared = prepare_torchvision()
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if torch.version.cuda is not None or "torchvision::" not in str(error):
            raise
    else:
        return declared
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]
    _declare()
    importlib.import_module("torchvision")
    return True


def _declare() -> None:
    if _kept:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _OPERATORS:
        library.define(name + _SCHEMA)
    _kept.append(library)
