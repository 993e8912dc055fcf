"""A replica's side of the door: it is given connections, and gives back those it cannot keep."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from raymlops.serve.door.handing import Hands
from raymlops.serve.door.sorting import is_health, model_of
from raymlops.serve.door.wire import Channel, Message
from raymlops.serve.http import HttpLimits, HttpServer, Strayed
from raymlops.serve.routing import RoutingName
from raymlops.serve.web import LONGEST_REMEMBERED, Admit, Handler, Refused, untold

_logger = logging.getLogger(__name__)

_RETRY_S = 0.05
_REPORT_S = 0.02
_DESCRIBE_S = 1.0
_REMEMBERED_PATHS = 256


class Doorway:
    """Serves what comes through the door at `path` by `handler`; belongs to one event loop.

    A door that dies is waited for; what is connected goes on meanwhile. Who serves several
    `models` gets no path that names none of them: the door answers that, or knows whose it is. The
    door deals connections by `routing`, and by the `rows_per_s` that is described where that goes
    by weights.
    """

    def __init__(
        self,
        path: Path,
        *,
        models: Sequence[str],
        replica: str,
        handler: Handler,
        limits: HttpLimits,
        admit: Admit | None = None,
        refused: Refused = untold,
        describe: Callable[[], dict[str, Any]] = dict,
        routing: RoutingName | None = None,
    ) -> None:
        self._path = path
        self._models = tuple(models)
        self._own: frozenset[str | None] = frozenset(models)
        if len(self._models) == 1:
            self._own |= {None}
        self._replica = replica
        self.server = HttpServer(
            handler,
            limits,
            admit=admit,
            refused=refused,
            belongs=self._belongs,
            hand_over=self._hand_over,
        )
        self._describe = describe
        self._routing = routing
        self._known_paths: dict[str, bool] = {}
        self._described_at = 0.0
        self._hands: Hands | None = None
        self._lost = asyncio.Event()
        self._held: dict[tuple[str, int], socket.socket] = {}
        self._num_broken = 0
        self._num_before = 0
        self._reported = (0, 0)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Never returns; cancel it to stop."""
        self.server.start()
        while True:
            if self._hands is None:
                self._connect()
            if self._hands is None:
                await asyncio.sleep(_RETRY_S)
                continue
            with suppress(OSError):  # the door has died: its channel will tell
                self._report()
            try:
                await asyncio.wait_for(self._lost.wait(), _REPORT_S)
            except TimeoutError:
                continue
            self._hands = None

    async def leave(self, timeout_s: float) -> int:
        """Gives every connection back between two requests, and waits until the door has taken
        them; returns how many had to be cut."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + timeout_s
        if self._hands is not None:
            with suppress(OSError):  # as above; connections that cannot go back are ended
                self._hands.channel.send("leaving")
        cut = 0
        while not cut and self._has_connections:
            while self._tasks:  # connections that were on their way here
                await asyncio.wait(self._tasks)
            cut = await self.server.drain(max(0.0, ends_at - loop.time()), self._hand_over)
            if self._hands is not None:
                cut += await self._hands.untaken(max(0.0, ends_at - loop.time()))
        if cut:
            _logger.warning("%d connections were cut: they took over %g s", cut, timeout_s)
        return cut

    def close(self) -> None:
        """Lets go of the door and of all that is left."""
        self.server.stop()
        if self._hands is not None:
            self._hands.close()
        for listening in self._held.values():
            listening.close()
        self._held.clear()

    @property
    def _has_connections(self) -> bool:
        """Whether there are any that would end with this process."""
        given = 0 if self._hands is None else self._hands.num_given
        return bool(self._tasks or self.server.connections or given)

    def _connect(self) -> None:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            peer.connect(str(self._path))
        except OSError:  # it is being started again
            peer.close()
            return
        self._lost.clear()
        self._described_at = 0.0
        self._num_before = self._num_received + len(self._tasks)
        self._reported = (len(self.server.connections), self._num_received - self._num_before)
        channel = Channel(peer, self._hear, self._lose)
        self._hands = Hands(channel)
        with suppress(OSError):  # as above
            channel.send(
                "enter",
                *(listening.fileno() for listening in self._held.values()),
                replica=self._replica,
                models=self._models,
                open=self._reported[0],
                routing=self._routing,
                most=self.server.max_connections,
            )

    def _lose(self) -> None:
        """The door has died; what it did not take goes on here."""
        assert self._hands is not None
        self._lost.set()
        for connection, strayed in self._hands.left():
            self._adopt(connection, strayed)

    def _hear(self, message: Message) -> None:
        assert self._hands is not None
        match message.kind:
            case "given":
                if (taken := self._hands.take(message)) is None:
                    self._num_broken += 1
                else:
                    self._adopt(*taken)
            case "taken":
                self._hands.settle()
            case "hold":
                listening = socket.socket(fileno=message.descriptors[0])
                address = listening.getsockname()[:2]
                if address in self._held:
                    listening.close()
                else:
                    self._held[address] = listening
            case "keep":
                self.server.keep(message.values["number"], self._hand_over)

    def _adopt(self, connection: socket.socket, strayed: Strayed | None) -> None:
        read = b"" if strayed is None else strayed.read
        task = asyncio.get_running_loop().create_task(self.server.adopt(connection, read))
        self._tasks.add(task)
        task.add_done_callback(self._adopted)

    def _adopted(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._num_broken += 1
            _logger.info("a connection broke on its way here: %s", error)

    @property
    def _num_received(self) -> int:
        """Connections that ever got here. One counts from the moment it is among the server's
        connections: reported as received before, it would be missing from the door's sum."""
        return self.server.num_accepted + self._num_broken

    def _report(self) -> None:
        """Tells the door what changed, and once a second who this is."""
        if self._hands is None or not self._hands.channel.is_open:
            return
        channel = self._hands.channel
        load = (len(self.server.connections), self._num_received - self._num_before)
        if load != self._reported:
            self._reported = load
            channel.send("load", open=load[0], received=load[1])
        if self.server.now - self._described_at >= _DESCRIBE_S:
            self._described_at = self.server.now
            channel.send("about", **self._describe())

    def _belongs(self, path: str) -> bool:
        found = self._known_paths.get(path)
        if found is None:
            found = model_of(path) in self._own and not is_health(path)
            if len(path) > LONGEST_REMEMBERED:
                return found
            if len(self._known_paths) >= _REMEMBERED_PATHS:
                self._known_paths.clear()
            self._known_paths[path] = found
        return found

    def _hand_over(self, descriptor: int, strayed: Strayed | None) -> None:
        """Raises ConnectionError while the door is away."""
        if self._hands is None:
            raise ConnectionResetError("the door is away")
        self._hands.give(descriptor, strayed)
