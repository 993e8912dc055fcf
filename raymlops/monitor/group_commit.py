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

Item = TypeVar("Item")


class _Entry(Generic[Item]):
    __slots__ = ("error", "is_done", "item")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.is_done = False
        self.error: BaseException | None = None


class GroupCommit(Generic[Item]):
    """`commit` takes a list of items, and either all of them land or it raises."""

    def __init__(self, commit: Callable[[Sequence[Item]], object]) -> None:
        self._commit = commit
        self._waiting: list[_Entry[Item]] = []
        self._list = threading.Lock()
        self._turn = threading.Lock()

    def add(self, item: Item) -> None:
        """Returns once `item` is committed; raises what `commit` raised of its group."""
        entry = _Entry(item)
        with self._list:
            self._waiting.append(entry)
        with self._turn:
            if not entry.is_done:
                self._commit_waiting()
        if entry.error is not None:
            raise entry.error

    def _commit_waiting(self) -> None:
        with self._list:
            group, self._waiting = self._waiting, []
        error: BaseException | None = None
        try:
            self._commit([entry.item for entry in group])
        except BaseException as raised:  # each thread of the group raises it, this one included
            error = raised
        for entry in group:
            entry.error, entry.is_done = error, True
