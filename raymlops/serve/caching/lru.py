"""Which entries a cache holds: the least recently used go first, and old ones are gone."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, kw_only=True)
class CachePolicy:
    """How much a cache may hold, and for how long it is believed.

    An entry counts with the bytes of its arrays and `OVERHEAD_BYTES` for all around them.
    """

    max_bytes: int = 64 * 1024 * 1024
    ttl_s: float = 300.0

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes is {self.max_bytes}, at least 1 is needed")
        if not self.ttl_s > 0:
            raise ValueError(f"ttl_s is {self.ttl_s}, more than 0 is needed; inf is for ever")


OVERHEAD_BYTES = 512
"""Key, dictionary entry, and the objects around the arrays, as measured for two outputs."""


@dataclass(slots=True, kw_only=True)
class CacheStats:
    """Counts since the cache was made; `joined` are misses that found their answer under way."""

    hits: int = 0
    misses: int = 0
    joined: int = 0
    evicted: int = 0

    @property
    def hit_ratio(self) -> float:
        """Of those that asked, how many cost no computation."""
        asked = self.hits + self.misses + self.joined
        return (self.hits + self.joined) / asked if asked else math.nan


@dataclass(frozen=True, slots=True)
class _Entry(Generic[V]):
    value: V
    size_bytes: int
    expires_at: float


class LruCache(Generic[K, V]):
    """Entries by key, within `policy`. Belongs to one thread; `now` is any steady clock."""

    def __init__(self, policy: CachePolicy) -> None:
        self._policy = policy
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._size_bytes = 0
        self.stats = CacheStats()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def get(self, key: K, now: float) -> V | None:
        """The value, which is then the most recently used; None when there is none, or too old.

        A hit is counted here; a miss by who then computes or joins.
        """
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now >= entry.expires_at:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        self.stats.hits += 1
        return entry.value

    def put(self, key: K, value: V, size_bytes: int, now: float) -> None:
        """Keeps the value, and drops the least recently used for it; one larger than the whole
        cache is not kept."""
        if key in self._entries:
            self._drop(key)
        size_bytes += OVERHEAD_BYTES
        if size_bytes > self._policy.max_bytes:
            return
        self._entries[key] = _Entry(value, size_bytes, now + self._policy.ttl_s)
        self._size_bytes += size_bytes
        while self._size_bytes > self._policy.max_bytes:
            self._drop(next(iter(self._entries)))
            self.stats.evicted += 1

    def forget(self, belongs: Callable[[K], bool]) -> None:
        """Drops the entries whose key `belongs`."""
        for key in [key for key in self._entries if belongs(key)]:
            self._drop(key)

    def _drop(self, key: K) -> None:
        self._size_bytes -= self._entries.pop(key).size_bytes
