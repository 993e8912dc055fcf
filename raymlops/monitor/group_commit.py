"""Many threads write, one at a time syncs for all of them.

    thread 1  ──add──► [1] ──── commit [1] ────►
    thread 2    ──add──► waits ···············► [2 3 4] ── commit [2 3 4] ──►
    thread 3      ──add──► waits ·················································►
    thread 4         ──add──► waits ··············································►

So a commit takes as many items as came while the one before was being synced: one alone waits for
nobody, and the more there are the less each costs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from raymlops.errors import RefusedError

Item = TypeVar("Item")


class _Entry(Generic[Item]):
    __slots__ = ("error", "is_done", "item", "wake")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.is_done = False
        self.error: BaseException | None = None
        self.wake = threading.Event()


class GroupCommit(Generic[Item]):
    """`commit` takes a list of items, and either all of them land or it raises.

    Of a group with an item that can never land the others do: each is committed alone then.

    Who finds nobody committing commits; who has committed wakes one of those that came meanwhile
    to go on. Were they to race for a lock, the first to be answered would be back before the
    others, and commit alone.
    """

    def __init__(self, commit: Callable[[Sequence[Item]], object]) -> None:
        self._commit = commit
        self._waiting: list[_Entry[Item]] = []
        self._is_committing = False
        self._lock = threading.Lock()

    def add(self, item: Item) -> None:
        """Returns once `item` is committed; raises what `commit` raised of its group, or of it."""
        entry = _Entry(item)
        with self._lock:
            self._waiting.append(entry)
            leads, self._is_committing = not self._is_committing, True
        if not leads:
            entry.wake.wait()
        if not entry.is_done:
            self._commit_waiting()
        if entry.error is not None:
            raise entry.error

    def _commit_waiting(self) -> None:
        with self._lock:
            group, self._waiting = self._waiting, []
        self._try(group)
        if len(group) > 1 and isinstance(group[0].error, RefusedError):
            for entry in group:
                self._try([entry])
        for entry in group:
            entry.is_done = True
            entry.wake.set()
        with self._lock:
            leader = self._waiting[0] if self._waiting else None
            self._is_committing = leader is not None
        if leader is not None:
            leader.wake.set()

    def _try(self, entries: Sequence[_Entry[Item]]) -> None:
        error: BaseException | None = None
        try:
            self._commit([entry.item for entry in entries])
        except BaseException as raised:  # each thread of them raises it, this one included
            error = raised
        for entry in entries:
            entry.error = error
