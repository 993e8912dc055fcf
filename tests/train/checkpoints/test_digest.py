from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raymlops.train.checkpoints.digest import digest, digest_of_file


@pytest.mark.parametrize("size", [0, 5, 8, 64 << 10, (64 << 10) + 3, (16 << 20) + 9, 33 << 20])
def test_a_file_has_the_digest_of_what_was_written(size: int, tmp_path: Path) -> None:
    content = np.random.default_rng(size).bytes(size)
    (tmp_path / "file").write_bytes(content)
    assert digest_of_file(tmp_path / "file") == digest(content) == digest(memoryview(content))
    assert digest(content[1:]) != digest(content) or not size


def test_it_stays_what_checkpoints_have_kept() -> None:
    assert digest(b"") == -5_426_141_060_434_712_860
    assert digest(bytes(range(256)) * 1000) == -3_028_603_007_341_787_829


@pytest.mark.parametrize("at", [0, 7, 8, 65_535, 65_536, 199_999, 200_002])
def test_a_bit_that_flipped_is_seen(at: int) -> None:
    content = bytearray(np.random.default_rng(1).bytes(200_003))
    before = digest(bytes(content))
    for bit in range(8):
        content[at] ^= 1 << bit
        assert digest(bytes(content)) != before
        content[at] ^= 1 << bit
    assert digest(bytes(content)) == before


def test_blocks_in_another_order_are_seen() -> None:
    first, second = (np.random.default_rng(seed).bytes(64 << 10) for seed in (1, 2))
    assert digest(first + second) != digest(second + first)
