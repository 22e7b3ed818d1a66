"""Models for counter passes: small, out of memory, or with no end."""

from __future__ import annotations

import time

import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images).mean((2, 3))


class Hungry(Tiny):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class Endless(Tiny):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        time.sleep(600)
        return images


def tiny() -> nn.Module:
    return Tiny()


def hungry() -> nn.Module:
    return Hungry()


def endless() -> nn.Module:
    return Endless()
