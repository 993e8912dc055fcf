"""A queue of named pipes: each waiter sleeps until the pipe of the one before it is closed.

    12-process 7 ...   open in the holder
    13-process 9 ...   open in a waiter, which polls 12 for hang-up
    14-process 8 ...   open in a waiter, which polls 13

The kernel closes a pipe when its owner releases it, gives up or dies, also by SIGKILL, and wakes
only whoever polls that one. A pipe that nobody has open is a dead owner's, and is swept by the
next who comes.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
from collections.abc import Iterator
from pathlib import Path

from raymlops.coordination.base import Holder, Lease
from raymlops.coordination.deadline import Deadline
from raymlops.coordination.embedded.disk import explained
from raymlops.coordination.embedded.numbers import Numbers
from raymlops.coordination.embedded.private_files import close_private, open_private
from raymlops.coordination.names import name_of, segment
from raymlops.errors import CoordinationError

_NUMBERS = "numbers"


class EmbeddedLock:
    """Members of the family `Lock`; `folder` holds the queue."""

    def __init__(self, folder: Path, *, name: str, owner: str) -> None:
        self._folder = folder
        self._name = name
        self._owner = owner
        self._numbers = Numbers(folder / _NUMBERS)

    @contextlib.contextmanager
    def hold(self, *, timeout_s: float | None = None) -> Iterator[Lease]:
        deadline = Deadline(timeout_s)
        with self._ticket() as ticket:
            self._wait_for_turn(ticket, deadline)
            process = os.getpid()
            lease = Lease(name=self._name, token=ticket, confirm=lambda: os.getpid() == process)
            try:
                yield lease
            finally:
                lease.end()

    def holder(self) -> Holder | None:
        for path in self._queue():
            if (pipe := _listen(path)) is not None:
                close_private(pipe)
                return _holder(path)
        return None

    @contextlib.contextmanager
    def _ticket(self) -> Iterator[int]:
        """A place at the end of the queue, for the length of the block."""
        owner, process = segment(self._owner), os.getpid()
        path = pipe = None
        try:
            # Within `next` the place becomes visible before anybody can draw a larger number.
            with explained(self._folder), self._numbers.next() as number:
                path = self._folder / f"{number}-{owner}"
                os.mkfifo(path, 0o600)
                pipe = open_private(path, os.O_RDWR)
            yield number
        finally:
            if path is not None and os.getpid() == process:  # no forked child that got here too
                path.unlink(missing_ok=True)
            if pipe is not None:
                close_private(pipe)

    def _wait_for_turn(self, ticket: int, deadline: Deadline) -> None:
        while (before := self._last_before(ticket)) is not None:
            try:
                hung_up = select.poll()
                hung_up.register(before, 0)  # POLLHUP always counts
                left_s = deadline.left_s
                if not hung_up.poll(None if left_s is None else math.ceil(left_s * 1000)):
                    raise CoordinationError(self._refusal(deadline))
            finally:
                close_private(before)

    def _last_before(self, ticket: int) -> int | None:
        """The open pipe of the last living owner before `ticket`; those of dead ones are swept."""
        for path in reversed(self._queue()):
            if _number(path) < ticket:
                if (pipe := _listen(path)) is not None:
                    return pipe
                path.unlink(missing_ok=True)
        return None

    def _queue(self) -> list[Path]:
        """The pipes in the order of their numbers, dead owners' included."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return []
        return sorted((self._folder / name for name in names if name != _NUMBERS), key=_number)

    def _refusal(self, deadline: Deadline) -> str:
        holder = self.holder()
        who = holder.owner if holder else "one that gave it up just now"
        return f"'{self._name}' is held by {who}; waited {deadline.timeout_s:g} s"


def _listen(path: Path) -> int | None:
    """The pipe opened for reading, which hangs up when its owner closes it; None if it has."""
    try:
        pipe = open_private(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        os.read(pipe, 1)
    except BlockingIOError:  # nothing to read, but somebody could still write
        return pipe
    close_private(pipe)
    return None


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _holder(path: Path) -> Holder:
    return Holder(owner=name_of(path.name.partition("-")[2]), token=_number(path))
