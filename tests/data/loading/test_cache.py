from __future__ import annotations

import numpy as np
import pytest

from raymlops.data.loading.cache import ChunkCache


def hold(cache: ChunkCache, *chunks: int) -> list[int] | None:
    leaving = cache.hold(np.array(chunks))
    return None if leaving is None else leaving.tolist()


def release(cache: ChunkCache, *chunks: int) -> None:
    cache.release(np.array(chunks))


def used(cache: ChunkCache, *chunks: int) -> list[int] | None:
    """What leaves when `chunks` are used and let go."""
    leaving = hold(cache, *chunks)
    release(cache, *chunks)
    return leaving


def test_the_least_recently_used_leaves_first() -> None:
    cache = ChunkCache(10, 3)
    assert used(cache, 7, 8, 9) == []
    assert used(cache, 7) == []
    assert used(cache, 1) == [8]  # not 7, the smallest number of those that were there first
    assert used(cache, 2, 3) == [9, 7]
    assert len(cache) == 3


def test_what_is_held_stays() -> None:
    cache = ChunkCache(10, 3)
    assert hold(cache, 1, 2) == []
    assert used(cache, 3) == []
    assert used(cache, 4) == [3]
    assert hold(cache, 5, 6) is None
    assert len(cache) == 3
    release(cache, 1, 2)
    assert hold(cache, 5, 6) == [1, 2]


def test_what_two_hold_stays_until_both_let_go() -> None:
    cache = ChunkCache(10, 1)
    hold(cache, 1)
    hold(cache, 1)
    release(cache, 1)
    assert hold(cache, 2) is None
    release(cache, 1)
    assert hold(cache, 2) == [1]


def test_what_is_wanted_again_does_not_leave_for_its_company() -> None:
    cache = ChunkCache(10, 2)
    assert used(cache, 1, 2) == []
    assert used(cache, 1, 3) == [2]


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="a cache of 0 chunks holds nothing"):
        ChunkCache(10, 0)
    with pytest.raises(ValueError, match="3 chunks cannot be held in a cache of 2"):
        hold(ChunkCache(9, 2), 1, 2, 3)
