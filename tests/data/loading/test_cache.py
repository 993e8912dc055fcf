from __future__ import annotations

import pytest

from raymlops.data.loading.cache import ChunkCache


def used(cache: ChunkCache, *chunks: int) -> list[int] | None:
    """What leaves when `chunks` are used and let go."""
    leaving = cache.hold(chunks)
    cache.release(chunks)
    return leaving


def test_the_least_recently_used_leaves_first() -> None:
    cache = ChunkCache(3)
    assert used(cache, 7, 8, 9) == []
    assert used(cache, 7) == []
    assert used(cache, 1) == [8]  # not 7, the smallest number of those that were there first
    assert used(cache, 2, 3) == [9, 7]
    assert len(cache) == 3


def test_what_is_held_stays() -> None:
    cache = ChunkCache(3)
    assert cache.hold([1, 2]) == []
    assert used(cache, 3) == []
    assert used(cache, 4) == [3]
    assert cache.hold([5, 6]) is None
    assert len(cache) == 3
    cache.release([1, 2])
    assert cache.hold([5, 6]) == [1, 2]


def test_what_two_hold_stays_until_both_let_go() -> None:
    cache = ChunkCache(1)
    cache.hold([1])
    cache.hold([1])
    cache.release([1])
    assert cache.hold([2]) is None
    cache.release([1])
    assert cache.hold([2]) == [1]


def test_what_is_wanted_again_does_not_leave_for_its_company() -> None:
    cache = ChunkCache(2)
    assert used(cache, 1, 2) == []
    assert used(cache, 1, 3) == [2]


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="a cache of 0 chunks holds nothing"):
        ChunkCache(0)
    with pytest.raises(ValueError, match="3 chunks cannot be held in a cache of 2"):
        ChunkCache(2).hold([1, 2, 3])
