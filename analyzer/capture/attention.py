"""Which implementation of attention a run used, told from the operators and the kernels of its trace, and what was asked for.

The operator says what PyTorch chose, the kernels say what the device did: either alone can mislead. A compiled model replays
kernels without an operator, and an operator's name stays where another library takes over what it does.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

_OPERATOR = "aten::_scaled_dot_product_"
_MATH = "math"
_SPECIFIC = ("flash", "efficient", "cudnn", _MATH)
FUSED = "fused"
"""What a kernel is called that several implementations share, as those of AMD's AOTriton."""
_KERNELS: tuple[tuple[str, re.Pattern[str]], ...] = (
    # in this order: cuDNN's names hold "flash" too (cudnn_generated_fort_native_sdpa_sm90_flash_fprop_...)
    ("cudnn", re.compile(r"cudnn\w*sdpa", re.IGNORECASE)),
    ("efficient", re.compile(r"fmha_cutlass[fb]_|PyTorchMemEffAttention")),
    ("flash", re.compile(r"flash_fwd|flash_bwd|pytorch_flash::|flash_?att(n|ention)_?f(wd|orward)", re.IGNORECASE)),
    (FUSED, re.compile(r"(^|::)attn_fwd|ck_tile::\w*Fmha")),
)


@dataclass(frozen=True, slots=True)
class Ran:
    """What ran: ``operators`` by their names behind ``aten::_scaled_dot_product_``, ``kernels`` by what implements them.

    ``kernels`` are flash, efficient, cudnn or ``FUSED``; empty on a CPU, and where no name is known.
    """

    operators: tuple[str, ...]
    kernels: tuple[str, ...]

    @property
    def refuted(self) -> tuple[str, ...]:
        """Return the fused operators of which the trace has no kernel, though it has those of another implementation."""
        shown = set(self.kernels)
        if not shown or FUSED in shown:
            return ()
        return tuple(name for name in self.operators if _family(name) not in (*shown, _MATH, ""))

    @property
    def families(self) -> frozenset[str]:
        """Return the implementations that ran: flash, efficient, cudnn, math, or an operator's name that is none of them."""
        by_operator = {_family(name) or name for name in self.operators if name not in self.refuted}
        return frozenset(by_operator | (set(self.kernels) - {FUSED}))

    @property
    def text(self) -> str | None:
        """Return what ``attention_backend`` of ``run.json`` says; None where nothing in the trace tells."""
        names = [name for name in self.operators if name not in self.refuted]
        told = {_family(name) for name in names}
        names += [f"{kernel}_attention" for kernel in self.kernels if kernel not in told and (kernel != FUSED or not told)]
        return ", ".join(names) or None


def ran(operators: AbstractSet[str], kernels: AbstractSet[str]) -> Ran:
    """Return which implementations of attention the names of ``operators`` and of ``kernels`` of a trace tell."""
    named = sorted(name.removeprefix(_OPERATOR) for name in operators if name.startswith(_OPERATOR))
    found = {family for name in kernels if (family := _of_kernel(name))}
    return Ran(tuple(named), tuple(sorted(found)))


def objection(asked: str, found: Ran, *, compiled: bool) -> str:
    """Return what is to be told where ``asked`` (flash, efficient, cudnn, math; auto never) is not what ran; empty where it is.

    ``compiled``: attention by products has no operator of its own in compiled code, so nothing found agrees with math there.
    """
    families = found.families
    if asked == "auto":
        return ""
    if not families and FUSED not in found.kernels:
        return _nothing(asked, compiled=compiled)
    if found.refuted:
        names = " and ".join(found.kernels)
        return f"attention={asked} was asked for; the operator is {', '.join(found.refuted)}, but its kernels are of {names}"
    others = sorted(families - {asked})
    if asked in families and others:
        return f"attention={asked} was asked for, and {' and '.join(others)} ran too"
    return f"attention={asked} was asked for, and what ran is {found.text}" if others else ""


def _nothing(asked: str, *, compiled: bool) -> str:
    if not compiled:
        return f"attention={asked} had no effect: the model calls no scaled_dot_product_attention"
    what = "the trace of the compiled code shows no operator and no kernel of a fused attention"
    return "" if asked == _MATH else f"attention={asked} was asked for, and {what}"


def _family(operator: str) -> str:
    return next((name for name in _SPECIFIC if name in operator), "")


def _of_kernel(name: str) -> str:
    return next((family for family, pattern in _KERNELS if pattern.search(name[:2000])), "")
