"""Messages that the monitor has not acknowledged: one call carries all that wait.

    message 0  ──put──► sink(0) ───────────►
    message 1    ──put──► waits ··········► sink(1, 2, 3) ── lost     sink(1, 2, 3, 4) ──►
    message 2       ──put──► waits ·······►
    message 3          ──put──► waits ····►
    message 4                                  ──put──► waits ·······►

So one message alone waits for nobody, and the slower the monitor answers the less each costs it.
Every call begins with the first message that is not acknowledged: whatever was lost, a call or its
answer, the monitor sees them in order, without gaps, and recognises repeated ones by their number.

A call is refused with all that it carries because of one message that can never be stored. Which
one shows when each is sent alone; it is given up after a few attempts, and those behind it go on.

    sink(1, 2, 3) ── refused    sink(1) ──►    sink(2) ── refused, given up    sink(3) ──►
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from raymlops.errors import ClusterError, RefusedError

_logger = logging.getLogger(__name__)

_RETRY_S = 0.5
_MAX_REFUSALS = 3  # of a message alone: what an older monitor cannot read, the next one may
# While a call carries half of them, so that Ray's part of what each costs is small, others come.
_MAX_MESSAGES = 16
# Of messages with a thousand requests these are a few; a larger one may be put behind them.
_FULL_BYTES = 1 << 18


class Sink(Protocol):
    """Returns when the monitor has all messages for good, which were made by
    `TapSummary.to_bytes`.

    Raises:
        ClusterError: that is unknown.
        RefusedError: it has none of them, as it can never store one.
    """

    async def __call__(self, *messages: bytes) -> object: ...


class _Message(NamedTuple):
    content: bytes
    num_rows: int


class Outbox:
    """Takes messages while there is room, and has `run` hand them to `sink`.

    `on_refusal` is told how many rows a message had that is given up, and why it is.
    """

    def __init__(self, sink: Sink, on_refusal: Callable[[int, RefusedError], None]) -> None:
        self._sink = sink
        self._on_refusal = on_refusal
        self._waiting: deque[_Message] = deque()
        self._num_alone = 0  # how many of the first are sent alone, as one of them was refused
        self._num_refusals = 0  # of the first, since it is sent alone
        self._room = asyncio.Event()
        self._room.set()
        self._due = asyncio.Event()
        self._closing = False

    def __len__(self) -> int:
        """How many messages are not acknowledged."""
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        return self._room.is_set()

    async def wait_for_room(self) -> None:
        await self._room.wait()

    def put(self, message: bytes, *, num_rows: int) -> None:
        """Adds the message that follows on the last; to be called where there is room."""
        self._waiting.append(_Message(message, num_rows))
        self._due.set()
        self._look_for_room()

    async def run(self) -> None:
        """Returns when `close` was called and every message is acknowledged or given up."""
        away = False
        while await self._is_any_left():
            carried = [each.content for each in self._waiting]
            if self._num_alone:
                del carried[1:]
            try:
                await self._sink(*carried)
            except RefusedError as error:
                away = False
                self._note_refusal(len(carried), error)
                await asyncio.sleep(_RETRY_S)
            except ClusterError as error:
                if not away:
                    _logger.warning("the monitor is away, the tap waits for it: %s", error)
                away = True
                await asyncio.sleep(_RETRY_S)
            else:
                away = False
                self._forget(len(carried))

    def close(self) -> None:
        """Makes `run` return once nothing is left."""
        self._closing = True
        self._due.set()

    async def _is_any_left(self) -> bool:
        if not self._waiting and not self._closing:
            self._due.clear()
            await self._due.wait()
        return bool(self._waiting)

    def _note_refusal(self, num_messages: int, error: RefusedError) -> None:
        if not self._num_alone:
            self._num_alone = num_messages
        else:
            self._num_refusals += 1
        if self._num_refusals == _MAX_REFUSALS:
            self._on_refusal(self._waiting[0].num_rows, error)
            self._forget(1)

    def _forget(self, num_messages: int) -> None:
        for _ in range(num_messages):
            self._waiting.popleft()
        self._num_alone = max(0, self._num_alone - num_messages)
        self._num_refusals = 0
        self._look_for_room()

    def _look_for_room(self) -> None:
        size_bytes = sum(len(each.content) for each in self._waiting)
        if len(self._waiting) < _MAX_MESSAGES and size_bytes < _FULL_BYTES:
            self._room.set()
        else:
            self._room.clear()
