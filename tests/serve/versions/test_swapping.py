from __future__ import annotations

from pathlib import Path

import pytest

from raymlops.serve.process.memory import free_bytes, resident_bytes
from raymlops.serve.versions.swapping import Footprint, SwapPolicy, expected_bytes, shortage

MIB = 2**20


def test_a_version_is_expected_to_grow_like_the_largest_before_it() -> None:
    small = Footprint(size_bytes=1 * MIB, grown_bytes=50 * MIB)
    large = Footprint(size_bytes=100 * MIB, grown_bytes=250 * MIB)
    shrunk = Footprint(size_bytes=200 * MIB, grown_bytes=-MIB)
    assert expected_bytes(100 * MIB, []) == 300 * MIB
    assert expected_bytes(200 * MIB, [small, large]) == 500 * MIB
    assert expected_bytes(200 * MIB, [shrunk]) == 200 * MIB


def test_a_shortage_tells_both_numbers_and_the_way_out() -> None:
    beside, rolling = SwapPolicy(reserve_mib=256), SwapPolicy(mode="rolling", reserve_mib=256)
    assert shortage("1.1.0", 500 * MIB, 756 * MIB, beside, replaces=True) is None
    told = (
        "version 1.1.0 needs about 500 MiB beside what serves, 755 MiB are free, of which 256 MiB "
        "stay in reserve: give the node more memory"
    )
    assert shortage("1.1.0", 500 * MIB, 755 * MIB, beside, replaces=True) == (
        f"{told}, or set serve.swap.mode to rolling, which unloads the old version first and "
        "answers 503 meanwhile"
    )
    assert shortage("1.1.0", 500 * MIB, 755 * MIB, beside, replaces=False) == told
    assert shortage("1.1.0", 500 * MIB, 755 * MIB, rolling, replaces=True) == told


def test_a_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    machine = free_bytes(tmp_path)
    assert machine > 0
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert free_bytes(tmp_path) == pytest.approx(machine, rel=0.2)
    (tmp_path / "memory.max").write_text("5000\n")
    assert free_bytes(tmp_path) == 4000
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 300\n")
    assert free_bytes(tmp_path) == 4300
    assert resident_bytes() > MIB


def test_an_impossible_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="reserve_mib is -1"):
        SwapPolicy(reserve_mib=-1)
    with pytest.raises(ValueError, match="mode is 'never'"):
        SwapPolicy(mode="never")  # type: ignore[arg-type]
