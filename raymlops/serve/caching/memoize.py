"""A decorator that remembers what a function returned.

@memoize(max_bytes=10_000_000, ttl_s=60)
def embed(texts: tuple[str, ...]) -> NDArray[np.float32]: ...

embed.cache_stats.hit_ratio
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

from raymlops.serve.caching.keys import digest_of
from raymlops.serve.caching.lru import CachePolicy, CacheStats, LruCache
from raymlops.serve.caching.sizes import kept, lent, size_of

P = ParamSpec("P")
R = TypeVar("R")


class Memoized(Generic[P, R]):
    """A function with a memory; safe to call from any thread.

    Equal arguments in several threads at once are computed once, and all get the value or the
    error. Errors are not remembered. Returned arrays are read-only copies, since all callers share
    them; lists, tuples, sets and mappings around them are each caller's own. An object of any other
    kind is shared as it is.
    """

    def __init__(
        self,
        function: Callable[P, R],
        policy: CachePolicy,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if inspect.iscoroutinefunction(function):
            raise TypeError(
                f"{function.__qualname__} is a coroutine function; memoize the plain function "
                "that it awaits"
            )
        update_wrapper(self, function)
        self._function = function
        self._signature = inspect.signature(function)
        self._cache: LruCache[bytes, tuple[R]] = LruCache(policy)
        self._running: dict[bytes, Future[R]] = {}
        self._lock = threading.Lock()
        self._clock = clock

    @property
    def cache_stats(self) -> CacheStats:
        return self._cache.stats

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        key = digest_of(bound.arguments)
        with self._lock:
            if (found := self._cache.get(key, self._clock())) is not None:
                return lent(found[0])
            running = self._running.get(key)
            if running is None:
                self._cache.stats.misses += 1
                mine = self._running[key] = Future()
            else:
                self._cache.stats.joined += 1
        return lent(
            running.result() if running is not None else self._compute(key, mine, args, kwargs)
        )

    def _compute(self, key: bytes, answer: Future[R], args: Any, kwargs: Any) -> R:
        try:
            value = kept(self._function(*args, **kwargs))
        except BaseException as error:
            with self._lock:
                del self._running[key]
            answer.set_exception(error)
            raise
        with self._lock:
            self._cache.put(key, (value,), size_of(value), self._clock())
            del self._running[key]
        answer.set_result(value)
        return value


def memoize(
    *, max_bytes: int = CachePolicy.max_bytes, ttl_s: float = np.inf
) -> Callable[[Callable[P, R]], Memoized[P, R]]:
    """Remembers what the decorated function returned, by what its arguments hold.

    Arguments are plain values, numpy arrays, sequences, mappings and dataclasses of these; how
    they are passed, by position or by name, makes no difference.
    """
    policy = CachePolicy(max_bytes=max_bytes, ttl_s=ttl_s)
    return lambda function: Memoized(function, policy)
