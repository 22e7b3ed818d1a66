"""Which release of Nsight Compute goes with which NVIDIA driver."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Match:
    """The CUDA release that came with drivers of the number ``driver``, and the Nsight Compute that came with it."""

    driver: int
    cuda: str
    ncu: str


MATCHES = (
    Match(470, "11.4.4", "2021.2.2"),
    Match(495, "11.5.2", "2021.3.1"),
    Match(510, "11.6.2", "2022.1.1"),
    Match(515, "11.7.1", "2022.2.1"),
    Match(520, "11.8.0", "2022.3.0"),
    Match(525, "12.0.1", "2022.4.1"),
    Match(530, "12.1.1", "2023.1.1"),
    Match(535, "12.2.2", "2023.2.2"),
    Match(545, "12.3.2", "2023.3.1"),
    Match(550, "12.4.1", "2024.1.1"),
    Match(555, "12.5.1", "2024.2.1"),
    Match(560, "12.6.3", "2024.3.2"),
    Match(570, "12.8.1", "2025.1.1"),
    Match(575, "12.9.1", "2025.2.1"),
    Match(580, "13.0.2", "2025.3.1"),
    Match(590, "13.1.1", "2025.4.1"),
)
"""By driver. CUDA to Nsight Compute: the labels of the package at anaconda.org/nvidia/nsight-compute. Driver to CUDA: the table
"CUDA Toolkit and Corresponding Driver Versions" of the CUDA release notes (recalled; 590 is not in the edition looked at)."""


def matching(driver_major: int) -> Match | None:
    """Return what goes with a driver: its own row, or that of the nearest older one; None where newer or older than the table.

    One that is not newer than the driver is safe: a newer driver runs what was made for an older one.
    """
    if driver_major >= MATCHES[-1].driver + 10:
        return None
    return max((row for row in MATCHES if row.driver <= driver_major), key=lambda row: row.driver, default=None)
