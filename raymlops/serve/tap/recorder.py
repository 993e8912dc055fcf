"""The tap: what was answered becomes counts for the monitor, off the path of requests.

    request --> ring --(every 0.25 s or 2048 requests)--> bins --> message n --> outbox --> monitor
                 `-- new requests wait while the outbox is full, the oldest fall out of a full ring

Messages stay in the outbox, and are sent again, until the monitor has acknowledged them, or has
refused one for good.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from raymlops.errors import RefusedError
from raymlops.serve.exchange import Run
from raymlops.serve.tap.blocks import Block, blocks_of
from raymlops.serve.tap.outbox import Outbox, Sink
from raymlops.serve.tap.steps import between_requests, finished
from raymlops.serve.tap.summarising import summarising

_logger = logging.getLogger(__name__)

_PERIOD_S = 0.25
# Fewer take longer a row: a column of 4096 is counted in twice the time of one of 1024, and a call
# by Ray takes a millisecond of processor time whatever it carries. More would be out of the caches.
_FLUSH_REQUESTS = 2048
_FLUSH_ROWS = 4096
_RING_ROWS = 65536
_FLUSH_VALUES = 1 << 20  # of tensors, 8 MB
_RING_VALUES = 1 << 23
_MESSAGE_REQUESTS = 4096  # a quarter of a megabyte
_AT_ONCE_VALUES = 1 << 17  # counted in a millisecond, see `steps`


class Recorder:
    """A bounded ring of what was answered, and the loops that empty it into `sink`.

    `on_drop` is told how many rows fell out of the ring, or were refused. Of each row it is kept
    where it lies in the features `slice_by`.
    """

    def __init__(
        self,
        *,
        model: str,
        replica: str,
        sink: Sink,
        on_drop: Callable[[int], None],
        ring_rows: int = _RING_ROWS,
        slice_by: tuple[str, ...] = (),
    ) -> None:
        self._model = model
        self._replica = replica
        self._outbox = Outbox(sink, self._report_refusal)
        self._on_drop = on_drop
        self._ring_rows = ring_rows
        self._slice_by = slice_by
        self._ring: deque[Block] = deque()
        self._rows = 0
        self._values = 0
        self._requests = 0
        self._dropped_rows = 0
        self._dropped_values = 0
        self._sequence = 0
        self._due = asyncio.Event()
        self._closing = False

    def note(self, runs: Sequence[Run]) -> None:
        """Remembers those that a version answered or failed to answer."""
        for block in blocks_of(runs):
            self._ring.append(block)
            self._rows += block.size
            self._values += block.num_values
            self._requests += len(block.ids)
        while self._rows > self._ring_rows or self._values > _RING_VALUES:
            dropped = self._pop()
            self._dropped_rows += dropped.size
            self._dropped_values += dropped.num_values
        if self._is_enough:
            self._due.set()

    async def run(self) -> None:
        """Returns when `close` was called, the ring is empty and no message is left."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._outbox.run())
            loops.create_task(self._pack())

    def close(self) -> None:
        """Makes `run` send what is left, at once, and return."""
        self._closing = True
        self._due.set()

    @property
    def pending_rows(self) -> int:
        """Rows that no message holds yet."""
        return self._rows

    @property
    def pending_messages(self) -> int:
        """Messages that the monitor has not acknowledged."""
        return len(self._outbox)

    @property
    def _is_enough(self) -> bool:
        return (
            self._requests >= _FLUSH_REQUESTS
            or self._rows >= _FLUSH_ROWS
            or self._values >= _FLUSH_VALUES
        )

    async def _pack(self) -> None:
        """Makes messages of what is in the ring, and closes the outbox behind the last."""
        while self._ring or not self._closing:
            await self._wait()
            self._report_drops()
            if self._outbox.has_room and (blocks := self._take()):
                num_rows = sum(block.size for block in blocks)
                self._outbox.put(await self._message(blocks), num_rows=num_rows)
                self._sequence += 1
                await asyncio.sleep(0)  # requests are answered between two messages
        self._outbox.close()

    async def _wait(self) -> None:
        """Until there is enough in the ring and room for it, but a period at the most."""
        try:
            async with asyncio.timeout(_PERIOD_S):
                await self._due.wait()
                await self._outbox.wait_for_room()
        except TimeoutError:
            pass

    def _take(self) -> list[Block]:
        taken: list[Block] = []
        num_requests = 0
        while self._ring:
            num_requests += len(self._ring[0].ids)
            if taken and num_requests > _MESSAGE_REQUESTS:
                break
            taken.append(self._pop())
        if not self._is_enough and not self._closing:
            self._due.clear()
        return taken

    def _pop(self) -> Block:
        oldest = self._ring.popleft()
        self._rows -= oldest.size
        self._values -= oldest.num_values
        self._requests -= len(oldest.ids)
        return oldest

    async def _message(self, blocks: list[Block]) -> bytes:
        steps = summarising(
            blocks,
            model=self._model,
            replica=self._replica,
            sequence=self._sequence,
            slice_by=self._slice_by,
        )
        num_values = sum(
            block.num_values + block.size * len(block.version.bundle.profile.bins)
            for block in blocks
        )
        if num_values > _AT_ONCE_VALUES:
            summary = await asyncio.to_thread(finished, steps)
        else:
            summary = await between_requests(steps)
        return summary.to_bytes()

    def _report_drops(self) -> None:
        if self._dropped_rows:
            _logger.warning(
                "%d rows of %s never reached the monitor: the ring holds %d%s",
                self._dropped_rows,
                self._model,
                self._ring_rows,
                f", or {_RING_VALUES} values of tensors" if self._dropped_values else "",
            )
            self._on_drop(self._dropped_rows)
            self._dropped_rows = self._dropped_values = 0

    def _report_refusal(self, num_rows: int, error: RefusedError) -> None:
        _logger.error(
            "%d rows of %s never reached the monitor, which refuses them: %s",
            num_rows,
            self._model,
            error,
        )
        self._on_drop(num_rows)
