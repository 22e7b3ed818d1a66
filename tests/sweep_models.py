"""A small model that goes wrong at certain image sizes, for sweeps: the tests put this directory on PYTHONPATH."""

import os
import signal

import torch
from torch import nn

OUT_OF_MEMORY, ABORT, KILLED, UNSUPPORTED = 48, 56, 64, 72


class Tiny(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3)
        self.head = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "meta":
            _go_wrong(x.shape[-1])
        return self.head(self.stem(x).mean((2, 3)))


def _go_wrong(size: int) -> None:
    if size == OUT_OF_MEMORY:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
    if size == ABORT:
        os.abort()
    if size == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if size == UNSUPPORTED:
        raise NotImplementedError("\"tiny\" not implemented for 'Float'")


def tiny(width: int = 4) -> Tiny:
    return Tiny(width)
