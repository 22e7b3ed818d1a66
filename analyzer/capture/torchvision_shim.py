"""Lets timm load where torchvision was built for another torch: the only place that works around it.

timm imports torchvision for a few helpers and never calls its compiled operators. A CPU torch beside a
torchvision built for CUDA fails at import with ``operator torchvision::nms does not exist``: the library that would
define the operators cannot be loaded. Declaring them (without kernels) is enough for the Python part.
"""

from __future__ import annotations

import importlib
import sys

import torch

_OPERATORS = ("nms", "qnms")  # what torchvision 0.28 registers shape functions for
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept: list[torch.library.Library] = []  # a library that is collected takes its operators with it


def ensure_torchvision() -> bool:
    """Make ``import torchvision`` work; return whether the operators had to be declared.

    Never active on a torch with CUDA: there a failing torchvision is a broken installation, and its own error is shown.

    Raises:
        RuntimeError: torchvision fails for another reason.
        ImportError: torchvision is not installed.
    """
    if "torchvision" in sys.modules:
        return False
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if torch.version.cuda is not None or "torchvision::" not in str(error):
            raise
    else:
        return False
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
