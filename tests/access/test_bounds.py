"""The compiled loops under numba's bounds check: an index that is out of range reads other memory without it, and says nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FAMILIES = """
import numpy as np
from analyzer.access.l2 import Cache, run
from analyzer.access.problem import Attention, Convolution, Product, Window
from analyzer.access.reuse import reuse_of
from analyzer.access.streams.build import fill, plan_of
from analyzer.access.streams.chain import materialised_stream
from analyzer.access.tiling import Geometry, Raster


def tiled(m, n, k, axes="mnb", panel=0, **more):
    return Geometry(m, n, k, (Raster(axes, panel),), "exact", "", **more)


cases = [
    (Product(3, 100, 70, 50, 4, 2), tiled(24, 40, 16)),
    (Product(1, 130, 70, 50, 2, 2), tiled(24, 16, 16, "nmb", 2, cluster=(2, 1))),
    (Product(1, 130, 70, 50, 2, 2), tiled(24, 16, 16, "nmb", 4, persistent=True)),
    (Attention(2, 6, 2, 100, 133, 64, 40, 2, True), tiled(64, 32, 64, "qhb")),
    (Attention(2, 4, 4, 100, 33, 64, 64, 2), tiled(64, 32, 64, "bhq")),
    (Convolution(2, 2, 24, 40, 13, 11, (3, 5), (2, 1), (1, 2), (1, 2), 2), tiled(32, 16, 8)),
    (Convolution(2, 1, 3, 8, 13, 11, (7, 7), (2, 2), (3, 3), (1, 1), 2), tiled(32, 16, 8, "nmb", 2)),
    (Convolution(1, 1, 8, 8, 3, 3, (1, 1), (3, 3), (3, 3), (1, 1), 2), tiled(8, 16, 8)),
    (Window(48, 17, 13, (7, 7), (2, 2), (3, 3), (1, 1), 2, 24 * 49 * 2), tiled(100, 1, 1)),
    (Window(9, 5, 4, (3, 3), (2, 2), (1, 1), (2, 2), 4, 0, 0, 8), tiled(64, 1, 1)),
    (Window(9, 7, 7, (7, 7), (7, 7), (0, 0), (1, 1), 4), tiled(4, 1, 1)),
]
streams = [fill(plan_of(p, g, g.rasters[0], 5, most)) for p, g in cases for most in (800_000, 500)]
streams += [materialised_stream(Attention(2, 3, 3, 100, 77, 64, 64, 2), tiled(32, 32, 64, "qhb"), 5)]
for stream in streams:
    reuse_of(stream)
    reuse_of(stream, sampling=0.5)
    for size in (1 << 12, 1 << 16, 1 << 30):
        for parts in (1, 2):
            for policy in ("lru", "nru"):
                run(stream, Cache(size, 16, parts), policy)
print(len(streams), "streams")
"""

BROKEN = """
from dataclasses import replace

import numpy as np
from analyzer.access.l2 import Cache, run
from analyzer.access.problem import Product
from analyzer.access.reuse import stack_distances
from analyzer.access.streams import emit
from analyzer.access.streams.build import empty, fill, plan_of
from analyzer.access.streams.order import turns
from analyzer.access.streams.stream import descriptors, placed
from analyzer.access.tiling import Geometry, Raster

plan = plan_of(Product(1, 64, 64, 64, 2, 2), Geometry(32, 32, 32, (Raster("mnb"),), "exact", ""), Raster("mnb"), 4)
stream = fill(plan)
beyond = stream.granule.copy()
beyond[3] = len(stream.sizes)
blocks = stream.block.copy()
blocks[3] = len(stream.side)
order, table = turns(plan.steps, 4), descriptors(placed(*plan.operands))
tries = {
    "granule in the cache": lambda: run(replace(stream, granule=beyond), Cache(1 << 16, 16, 1), "lru"),
    "block in the cache": lambda: run(replace(stream, block=blocks), Cache(1 << 16, 16, 2), "nru"),
    "granule in the distances": lambda: stack_distances(beyond, len(stream.sizes)),
    "room for the accesses": lambda: plan.emitter(empty(3), order, plan.tiles, table, plan.shape),
    "tile of a block": lambda: plan.emitter(empty(100), order, plan.tiles[:1], table, plan.shape),
}
for name, attempt in tries.items():
    try:
        attempt()
    except IndexError:
        print("caught:", name)
    else:
        print("MISSED:", name)
"""


def run_checked(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script with bounds checked; nothing that was compiled without the check is at hand."""
    env = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env, cwd=folder, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checked")


def test_the_check_is_a_check(folder: Path) -> None:
    done = run_checked(BROKEN, folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("caught:") for line in lines), done.stdout


def test_no_family_leaves_its_arrays(folder: Path) -> None:
    done = run_checked(FAMILIES, folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["23", "streams"]
