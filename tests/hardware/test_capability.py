"""Limits of multiprocessors."""

from __future__ import annotations

import pytest

from analyzer.hardware.capability import sm_limits
from analyzer.hardware.lookup import sheets


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ("6.1", "6.1"), ("7.2", "7.0"), ("8.7", "8.7"), ("8.8", "8.7"), ("10.3", "10.0"), ("12.1", "12.0"), ("9.0", "9.0"),
        ("11.0", None), ("5.2", None), ("99.0", None), (None, None), ("", None), ("9", None), ("gfx942", None), ("9.x", None),
    ],
)  # fmt: skip
def test_unlisted_capability_takes_the_nearest_lower_of_its_major(asked: str | None, taken: str | None) -> None:
    found = sm_limits(asked)
    assert (found is None) == (taken is None)
    assert found == sm_limits(taken)


def test_pascal_has_two_sub_partitions_on_6_0_alone() -> None:
    found = {cc: sm_limits(cc) for cc in ("6.0", "6.1", "6.2")}
    assert [f.sub_partitions for f in found.values() if f] == [2, 4, 4]
    assert [f.shared_per_sm_kib for f in found.values() if f] == [64, 96, 64]
    assert [f.registers_per_block for f in found.values() if f] == [65536, 65536, 32768]
    assert {(f.max_warps_per_sm, f.max_blocks_per_sm, f.shared_optin_kib) for f in found.values() if f} == {(64, 32, 48)}


def test_sheets_and_capabilities_agree() -> None:
    for sheet in sheets().values():
        if sheet.vendor != "NVIDIA":
            continue
        limits = sm_limits(sheet.compute_capability)
        assert limits
        for name, value in (
            ("shared_per_sm", limits.shared_per_sm_kib),
            ("shared_optin_per_block", limits.shared_optin_kib),
            ("registers_per_sm", limits.registers_per_sm),
            ("max_warps_per_sm", limits.max_warps_per_sm),
            ("max_blocks_per_sm", limits.max_blocks_per_sm),
            ("max_threads_per_sm", limits.max_threads_per_sm),
        ):
            figure = sheet.figure(name)
            assert figure
            assert figure.value == value, (sheet.key, name)
