from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.serve.caching.lru import OVERHEAD_BYTES, CachePolicy, LruCache


def cache(num_entries: int, ttl_s: float = math.inf) -> LruCache[str, str]:
    """Room for so many entries of size 0."""
    return LruCache(CachePolicy(max_bytes=num_entries * OVERHEAD_BYTES, ttl_s=ttl_s))


def test_the_least_recently_used_goes_first_not_the_smallest_key() -> None:
    held = cache(2)
    held.put("a", "A", 0, 0.0)
    held.put("b", "B", 0, 1.0)
    assert held.get("a", 2.0) == "A"
    held.put("c", "C", 0, 3.0)
    assert (held.get("a", 4.0), held.get("b", 4.0), held.get("c", 4.0)) == ("A", None, "C")
    assert held.stats.evicted == 1


def test_an_old_entry_is_gone_at_its_time() -> None:
    held = cache(2, ttl_s=10.0)
    held.put("a", "A", 0, 0.0)
    assert held.get("a", 9.999) == "A"
    assert held.get("a", 10.0) is None
    assert (len(held), held.size_bytes) == (0, 0)


def test_what_is_larger_than_the_whole_cache_is_not_kept() -> None:
    held = cache(2)
    held.put("a", "A", 0, 0.0)
    held.put("b", "B", 3 * OVERHEAD_BYTES, 0.0)
    assert (held.get("a", 0.0), held.get("b", 0.0)) == ("A", None)


@given(
    calls=st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 1500), st.booleans()), max_size=60
    )
)
def test_the_bound_holds_and_sizes_add_up(calls: list[tuple[str, int, bool]]) -> None:
    held = cache(4)
    sizes: dict[str, int] = {}
    for now, (key, size, reads) in enumerate(calls):
        if reads:
            held.get(key, now)
        else:
            held.put(key, key, size, now)
            sizes[key] = size + OVERHEAD_BYTES
        assert held.size_bytes <= 4 * OVERHEAD_BYTES
    found = [key for key in sizes if held.get(key, len(calls)) is not None]
    assert held.size_bytes == sum(sizes[key] for key in found)
    assert len(held) == len(found)


@pytest.mark.parametrize(
    ("policy", "reason"),
    [({"max_bytes": 0}, "max_bytes is 0"), ({"ttl_s": 0.0}, "ttl_s is 0.0"),
     ({"ttl_s": math.nan}, "ttl_s is nan")],
)  # fmt: skip
def test_an_impossible_policy_is_refused(policy: dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        CachePolicy(**policy)  # type: ignore[arg-type]
