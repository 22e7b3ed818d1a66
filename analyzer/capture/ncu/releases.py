"""Which releases of Nsight Compute count on which chip."""

from __future__ import annotations

import re
from dataclasses import dataclass

from analyzer.capture.permission import Obstacle

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Support:
    """Releases that count on a compute capability: from ``first`` on, through ``last`` where support ended.

    ``chips``: how the names of its chips begin in ``ncu --list-chips``. ``source``: where that is known from.
    """

    capability: tuple[int, int]
    first: tuple[int, int, int]
    chips: tuple[str, ...]
    source: str
    last: tuple[int, int, int] | None = None


_EVERY = (2020, 3, 0)
"""The oldest release with every option that is used here and with reports named ``.ncu-rep`` (recalled, not looked up)."""

SUPPORT = (
    Support(
        (7, 0),
        _EVERY,
        ("gv100",),
        "GPU support of the 2024.1 release notes lists GV100, that of the newest does not; nvidia-cuda-cupti 13.0.85 (that of "
        "2025.3) has GV100, 13.5 has not. A public script says that 2025.1 refuses it already: ncu's own words tell then",
        (2025, 3, 99),
    ),
    Support((7, 5), _EVERY, ("tu1",), "GPU support of the 2024.1 release notes and of the newest"),
    Support((8, 0), _EVERY, ("ga100",), "release notes, updates in 2020.1.1"),
    Support((8, 6), _EVERY, ("ga102", "ga103", "ga104", "ga106", "ga107"), "recalled: 2020.2 brought GA10x, with CUDA 11.1"),
    Support((8, 7), (2021, 2, 3), ("ga10b",), "release notes, updates in 2021.2.3"),
    Support((8, 9), (2022, 3, 0), ("ad10",), "recalled: with CUDA 11.8, which is 2022.3 (Nsight Compute release history)"),
    Support((9, 0), (2022, 3, 0), ("gh100",), "recalled: with CUDA 11.8; a log of 2022.4.1 lists gh100"),
    Support((10, 0), (2025, 1, 0), ("gb1",), "recalled: with CUDA 12.8, which is 2025.1 (packages of the channel nvidia)"),
    Support((12, 0), (2025, 1, 0), ("gb2",), "recalled: with CUDA 12.8; a log of 2022.4.1 on an RTX 5060 Ti refuses it"),
)
"""By compute capability; one that is not listed is like the nearest lower one of its major."""


def version_text(version: Version) -> str:
    """Return a version as ncu prints it, ``2025.3.1``."""
    return ".".join(map(str, version))


def support_of(capability: str) -> Support | None:
    """Return what counts on ``capability`` (``9.0``), None where that is not known."""
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", capability)
    if match is None:
        return None
    wanted = int(match[1]), int(match[2])
    lower = [support for support in SUPPORT if support.capability[0] == wanted[0] and support.capability <= wanted]
    return max(lower, key=lambda support: support.capability, default=None)


def unsuited(capability: str, version: Version, chips: str = "") -> Obstacle | None:
    """Return why this release cannot count on ``capability``; None where nothing is known against it.

    ``chips``: what ``ncu --list-chips`` printed, empty where it said nothing. It is asked for the exact capability only: how
    the chips of others are named is not known here.
    """
    support = support_of(capability)
    if support is None:
        return None
    name = f"Nsight Compute {version_text(version)}"
    if version < support.first:
        return Obstacle(
            f"{name} is too old for compute capability {capability}",
            f"install Nsight Compute {version_text(support.first)} or newer; it comes with the CUDA toolkit",
        )
    if support.last is not None and version > support.last:
        newest = f"{support.last[0]}.{support.last[1]}"
        return Obstacle(
            f"{name} is too new for compute capability {capability}, which newer releases dropped",
            f"install Nsight Compute {newest} or older; both can be installed side by side",
        )
    exact = f"{support.capability[0]}.{support.capability[1]}" == capability
    listed = re.findall(r"\b(?:ad|ga|gb|gh|gr|gv|tu)\d{2}\w\b", chips.lower())
    if exact and listed and not any(chip.startswith(support.chips) for chip in listed):
        return Obstacle(
            f"{name} does not know the chip of compute capability {capability}",
            "install another release of Nsight Compute; ncu --list-chips shows what one knows",
        )
    return None
