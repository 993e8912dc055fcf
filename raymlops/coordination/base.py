"""What a coordination backend offers: a lock and a key-value store. All else is built on them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from raymlops.coordination.watch import Watch
from raymlops.errors import CoordinationError


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lock: `owner` in words, and the `token` of its lease."""

    owner: str
    token: int


class Lease:
    """The right to act under `name`, as far as its holder can know.

    `token` is larger than that of every earlier holder. A process that slept through its session
    believes in its lease until it looks again, so what it writes to must compare tokens and refuse
    a smaller one than it has seen, with StaleLeaseError. `check` and `wait_lost` only end useless
    work early.
    """

    def __init__(self, *, name: str, token: int, confirm: Callable[[], bool]) -> None:
        self.name = name
        self.token = token
        self._confirm = confirm
        self._lost = threading.Event()

    def __repr__(self) -> str:
        return f"Lease(name={self.name!r}, token={self.token})"

    def check(self) -> None:
        """Asks the backend whether the lease still stands.

        Raises:
            CoordinationError: it was lost or given up, or the backend cannot be asked.
        """
        if self._lost.is_set() or not self._confirm():
            raise CoordinationError(
                f"'{self.name}' is no longer held under token {self.token}; acquire it again"
            )

    def wait_lost(self, timeout_s: float | None = None) -> bool:
        """Waits until the lease is known to be lost or given up; False after `timeout_s`."""
        return self._lost.wait(timeout_s)

    def end(self) -> None:
        """For backends: the lease is lost or given up."""
        self._lost.set()


class Lock(Protocol):
    """Waiters are served in the order they came; a release wakes only the next."""

    def hold(self, *, timeout_s: float | None = None) -> AbstractContextManager[Lease]:
        """Holds the lock for the length of the block; None waits for ever, 0 not at all.

        It is given up when the block ends or the holder's process dies.

        Raises:
            CoordinationError: somebody else held it for all of `timeout_s`; says who.
        """
        ...

    def holder(self) -> Holder | None:
        """Who holds the lock now."""
        ...


MAX_VALUE_BYTES = 1_000_000  # what every backend takes; ZooKeeper drops the line above 1 MiB


def checked_value(value: bytes) -> bytes:
    """Raises ValueError when the value is too large to be kept under a key."""
    if len(value) > MAX_VALUE_BYTES:
        raise ValueError(
            f"a value of {len(value):,} bytes is too large, {MAX_VALUE_BYTES:,} is the limit; "
            "put it into the store and its digest here"
        )
    return value


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The value under a key. A later entry has a larger `version`, also when the key was deleted
    in between."""

    value: bytes
    version: int


class KeyValue(Protocol):
    """Values of up to MAX_VALUE_BYTES under names. A write that returned survives every crash.

    Raises CoordinationError when the backend cannot be reached; the message says so when a write
    may or may not have happened.
    """

    def get(self, key: str) -> Entry | None: ...

    def set(self, key: str, value: bytes) -> Entry:
        """Returns what is now under the key."""
        ...

    def compare_and_set(self, key: str, value: bytes, *, version: int) -> Entry | None:
        """Writes if the key is still at `version`, 0 meaning that there is no such key.

        None when somebody else was faster.
        """
        ...

    def delete(self, key: str) -> bool:
        """Whether there was such a key."""
        ...

    def keys(self) -> list[str]:
        """In alphabetical order."""
        ...

    def watch(self, key: str) -> AbstractContextManager[Watch[Entry | None]]:
        """The entry as it is and as it changes; None while there is no such key."""
        ...


class Backend(Protocol):
    """Each `path` is made of segments (see `names`) below the root of the installation."""

    def lock(self, path: str, *, name: str, owner: str) -> Lock:
        """`name` and `owner` are what others are told about the lock and its holder."""
        ...

    def key_value(self, path: str) -> KeyValue: ...

    def close(self) -> None:
        """Gives up every lease and ends the session."""
        ...
