"""Answers that are known: found before the batcher, and computed once for all who miss together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from raymlops.data import Columns
from raymlops.errors import RequestError
from raymlops.serve.batching import Done, Outputs, Times
from raymlops.serve.caching.keys import digest_of_columns
from raymlops.serve.caching.lru import LruCache
from raymlops.serve.caching.sizes import kept, size_of

Key = tuple[str, bytes]
"""A version and the digest of the columns it was asked about."""


class Enqueue(Protocol):
    """What a batcher takes, see `Batcher.enqueue`."""

    def __call__(
        self,
        columns: Columns,
        done: Done,
        *,
        timeout_s: float | None = None,
        priority: int = 0,
        times: Times | None = None,
    ) -> Callable[[], None]: ...


class PredictionCache:
    """Stands before the `enqueue` of one version's batcher, and takes the same calls.

    Several versions may share `known`, and with it the bound. Whoever leaves or runs out of time
    leaves alone: the computation goes on for the others, and is given up with the last of them.
    """

    def __init__(self, version: str, enqueue: Enqueue, known: LruCache[Key, Outputs]) -> None:
        self._version = version
        self._enqueue = enqueue
        self._known = known
        self._flights: dict[Key, _Flight] = {}

    def enqueue(
        self,
        columns: Columns,
        done: Done,
        *,
        timeout_s: float | None = None,
        priority: int = 0,
        times: Times | None = None,
    ) -> Callable[[], None]:
        """Calls `done`, later, with what is known or was computed; returns how to give it up.

        `times` are told of what was computed for this request, not of what it found.
        """
        key = (self._version, digest_of_columns(columns))
        found = self._known.get(key, time.monotonic())
        if found is not None:
            return asyncio.get_running_loop().call_soon(done, dict(found)).cancel
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(partial(self._landed, key))
            flight.start(self._enqueue, columns, priority, times)
            self._flights[key] = flight
            self._known.stats.misses += 1
        else:
            self._known.stats.joined += 1
        return flight.join(done, timeout_s)

    def _landed(self, key: Key, result: Outputs | Exception | None) -> None:
        """A computation has ended, with None when nobody wanted it any more."""
        del self._flights[key]
        if result is not None and not isinstance(result, Exception):
            outputs = kept(result)
            self._known.put(key, outputs, size_of(outputs), time.monotonic())


class _Flight:
    """A computation under way, and all who wait for it."""

    def __init__(self, landed: Callable[[Outputs | Exception | None], None]) -> None:
        self._landed = landed
        self._waiting: dict[int, Done] = {}
        self._num_joined = 0
        self._give_up: Callable[[], None] | None = None
        self._timers: list[asyncio.TimerHandle] = []

    def start(self, enqueue: Enqueue, columns: Columns, priority: int, times: Times | None) -> None:
        self._give_up = enqueue(columns, self._land, timeout_s=None, priority=priority, times=times)

    def join(self, done: Done, timeout_s: float | None) -> Callable[[], None]:
        number = self._num_joined
        self._num_joined += 1
        self._waiting[number] = done
        if timeout_s is not None:
            loop = asyncio.get_running_loop()
            self._timers.append(loop.call_later(timeout_s, self._expire, number, timeout_s))
        return partial(self._leave, number)

    def _leave(self, number: int) -> None:
        if self._waiting.pop(number, None) is not None and not self._waiting:
            if self._give_up is not None:
                self._give_up()
            self._end(None)

    def _expire(self, number: int, timeout_s: float) -> None:
        done = self._waiting.get(number)
        if done is not None:
            self._leave(number)
            done(RequestError(504, f"the deadline passed after {timeout_s:.3f} s"))

    def _land(self, result: Outputs | Exception) -> None:
        waiting = self._waiting
        self._waiting = {}
        self._end(result)
        for done in waiting.values():
            done(result if isinstance(result, Exception) else dict(result))

    def _end(self, result: Outputs | Exception | None) -> None:
        for timer in self._timers:
            timer.cancel()
        self._landed(result)
