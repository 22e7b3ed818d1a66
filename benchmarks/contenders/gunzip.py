"""Decompression alone, streamed: the least any reader of a compressed trace pays."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

CHUNK_BYTES = 1 << 20

path = Path(sys.argv[1])
size = 0
with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
    while chunk := file.read(CHUNK_BYTES):
        size += len(chunk)
print(f'{{"bytes": {size}}}')
