"""One connection of a client: a machine behind an asyncio transport, with its patience."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from raymlops.serve.http.limits import Phase, overdue
from raymlops.serve.http.machine import Machine, Strayed
from raymlops.serve.web import Response

if TYPE_CHECKING:
    from raymlops.serve.http.server import HttpServer

_IDLE, _DONE = Phase.IDLE, Phase.DONE  # as in `machine`
_LINGER_S = 2.0
"""How long a client may take to close once its last answer is on its way, before it is cut."""

HandOver = Callable[[int, Strayed | None], None]
"""Gives a connected socket, by its descriptor, to another process, with the request that was read
of it; None between two requests."""


class Connection(asyncio.Protocol):
    """Belongs to a server, which sweeps it a few times a second to see whether it is overdue.

    So that no timer is set for a request, and no clock is read.
    """

    def __init__(self, server: HttpServer, read: bytes = b"") -> None:
        self._server = server
        self._max_pipelined = server.limits.max_pipelined
        self._read = read
        self._received = 0
        self._is_stopped = False
        self._is_full = False
        self._ends_at: float | None = None
        self._leaves_by: HandOver | None = None
        self._seen = _Seen(server.now)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        server = self._server
        peer = transport.get_extra_info("peername")
        self.machine = Machine(
            server.handler,
            self._transport.write,
            self._settle,
            encoder=server.encoder,
            limits=server.limits,
            heads=server.heads,
            admit=server.admit,
            refused=server.refused,
            belongs=server.belongs,
            peer=peer[0] if isinstance(peer, tuple) else "",
        )
        server.opened(self)
        if self._read:  # before anything that comes after it
            self.data_received(self._read)
            self._read = b""

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        machine = self.machine
        machine.feed(data)
        if machine.phase is _DONE:
            self._attend()
        elif len(machine.unanswered) > self._max_pipelined:
            self._is_full = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """Closes: a client that closed one side only looks like one that has gone, and nearly
        always has, so that its requests need not be worked on."""

    def connection_lost(self, error: Exception | None) -> None:
        self.machine.lose()
        self._server.closed(self)

    def pause_writing(self) -> None:
        self._is_stopped = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_stopped = False
        self._read_on()

    def finish(self) -> None:
        """Closes once all requests that were received are answered."""
        self.machine.finish()
        self._attend()

    def give_up(self, refusal: Response) -> None:
        """Answers what is being read with `refusal`, and closes."""
        self.machine.refuse(refusal)
        self._attend()

    def leave(self, hand_over: HandOver) -> None:
        """Goes to another process as soon as nothing of the client's is held here."""
        if self._leaves_by is None:
            self._leaves_by = hand_over
            self._attend()

    @property
    def is_leaving(self) -> bool:
        return self._leaves_by is not None

    @property
    def is_ending(self) -> bool:
        """Whether only the client has still to read, and to close."""
        return self._ends_at is not None

    @property
    def idle_s(self) -> float:
        """How long it has been between two requests, as far as the sweeps saw; 0 if it is not."""
        if self.is_leaving or not self.machine.is_between_requests:
            return 0.0
        return self._server.now - self._seen.phase_at

    def abort(self) -> None:
        self._transport.abort()

    def sweep(self, now: float) -> None:
        """Ends what is overdue; `now` is monotonic."""
        machine, seen, limits = self.machine, self._seen, self._server.limits
        seen.look(now, machine, self._received, self._is_stopped)
        if self._ends_at is not None:
            if self._transport.get_write_buffer_size() == 0:
                self._ends_at = min(self._ends_at, now + _LINGER_S)
            if now >= self._ends_at:
                self.abort()
        elif self._is_stopped and now - seen.stopped_at >= limits.send_timeout_s:
            self.abort()
        elif reason := overdue(
            machine.phase,
            in_phase_s=now - seen.phase_at,
            silent_s=now - seen.heard_at,
            limits=limits,
        ):
            if machine.phase is _IDLE:
                machine.finish()
                self._attend()
            else:
                self.give_up(Response.error(408, reason))
        elif self._leaves_by is not None:  # its last answer may have been on its way until now
            self._attend()

    def _settle(self) -> None:
        """After an answer was written; nearly always there is nothing to do."""
        if self.machine.phase is _DONE or self._is_full or self._leaves_by is not None:
            self._attend()

    def _attend(self) -> None:
        machine = self.machine
        if machine.strayed is not None and self._server.hand_over is not None:
            self._move(self._server.hand_over, machine.strayed)
        elif machine.is_over:
            self._end()
        elif self._leaves_by is not None and machine.is_between_requests:
            if self._transport.get_write_buffer_size() == 0:
                self._move(self._leaves_by, None)
        elif self._is_full and len(machine.unanswered) <= self._max_pipelined // 2:
            self._is_full = False
            self._read_on()

    def _read_on(self) -> None:
        if not (self._is_full or self._is_stopped or self._transport.is_closing()):
            self._transport.resume_reading()

    def _move(self, hand_over: HandOver, strayed: Strayed | None) -> None:
        if self._transport.is_closing():
            return
        self._transport.pause_reading()
        try:
            hand_over(self._transport.get_extra_info("socket").fileno(), strayed)
        except OSError:  # nobody is there to take it
            self._stay(strayed)
        else:
            self._transport.abort()  # closes this process's descriptor; the connection lives on

    def _stay(self, strayed: Strayed | None) -> None:
        self._leaves_by = None
        self._transport.resume_reading()
        if strayed is not None:
            self.machine.strayed = None
            self.machine.refuse(Response.error(503, "try again", ("retry-after", "1")))
        else:
            self.machine.finish()
        self._attend()

    def _end(self) -> None:
        """Closes so that the client can read its last answer: a socket that is closed with
        unread bytes resets the connection, and takes what was sent along."""
        if self._ends_at is not None or self._transport.is_closing():
            return
        self._ends_at = self._server.now + self._server.limits.send_timeout_s
        if not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        if not self._is_stopped:
            self._transport.resume_reading()


class _Seen:
    """When the sweep first saw a connection as it is now."""

    __slots__ = ("heard_at", "phase_at", "progress", "received", "stopped_at")

    def __init__(self, now: float) -> None:
        self.phase_at = self.heard_at = self.stopped_at = now
        self.progress: tuple[Phase, int] = (_IDLE, 0)
        self.received = 0

    def look(self, now: float, machine: Machine, received: int, is_stopped: bool) -> None:
        progress = (machine.phase, machine.num_requests)
        waits_for_us = machine.phase is _IDLE and len(machine.unanswered) > 0
        if progress != self.progress or waits_for_us:
            self.progress, self.phase_at = progress, now
        if received != self.received:
            self.received, self.heard_at = received, now
        if not is_stopped:
            self.stopped_at = now
