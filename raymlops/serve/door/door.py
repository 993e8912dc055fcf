"""The door of a node: where clients connect, and from where they are given to replicas.

    client --connect--> door --looks at the first bytes--> replica of that model
    client <------------------- requests and answers -------------------> replica

The door accepts, peeks at the path that is asked for, and passes the connected socket on to the
replica of that model with the fewest connections. No request passes through it. A connection that
asks for another model later, or whose replica leaves, comes back and goes on to the next one;
its client notices nothing.

Doors of several nodes know each other. When the replicas of another node have room for a
connection and those here have not, or there are none here, it goes on to the door there, and its
bytes are copied (`relay`): any door is an address for all models.

Replicas hold the listening sockets too, without accepting. When the door dies, clients wait in the
kernel's queue until it is back and has taken the sockets from them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from raymlops.errors import ClusterError
from raymlops.serve.door.relay import (
    Entrance,
    UnservedError,
    answer,
    knock,
    new_secret,
    relay,
    who_knocks,
)
from raymlops.serve.door.roster import Crowd, Roster
from raymlops.serve.door.sorting import may_have_path, path_of
from raymlops.serve.door.tls import TlsFiles, decrypt
from raymlops.serve.door.waiting import Visitor, WaitingRoom
from raymlops.serve.door.wire import Channel, Message, send_connection, take_connection
from raymlops.serve.http import HttpLimits, HttpServer
from raymlops.serve.web import Handler, Reply, Request, Response

_logger = logging.getLogger(__name__)

_PEEK_BYTES = 4096
_BACKLOG = 4096
_ACCEPT_AT_ONCE = 64
_TICK_S = 0.25
_WAIT_S = 30.0
"""How long a client waits for a model that has no replica at the moment."""
_AVOID_S = 10.0
"""How long a door that cannot be reached, although it says where it is, is left alone."""
_RETURN_S = 5.0
"""How long a door that was started again waits for replicas to bring a listening socket."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a door tells those of other nodes: how to come in, what it has by model, and by node
    the models whose connections it sends there."""

    entrance: Entrance
    crowds: Mapping[str, Crowd]
    relays: Mapping[str, frozenset[str]]


class Door:
    """Accepts for the replicas of this node that connect to the socket at `path`.

    Args:
        handler: answers what no replica can, given the models and those that have no replica.
        tls: what connections are encrypted by; plain ones are refused then.
    """

    def __init__(
        self,
        path: Path,
        handler: Callable[[Roster], Handler],
        limits: HttpLimits,
        *,
        tls: TlsFiles | None = None,
    ) -> None:
        self._path = path
        self._roster = Roster()
        self._listening: dict[tuple[str, int], socket.socket] = {}
        self._brought = asyncio.Event()
        self._channels: dict[str, Channel] = {}
        self._strangers: set[Channel] = set()
        self._waiting = WaitingRoom(_WAIT_S)
        self._certificate = None if tls is None else tls.certificate.read_text()
        self._tls = None if tls is None else tls.context()
        self._inner: socket.socket | None = None
        self._secrets: dict[str, bytes] = {}
        self._entrances: dict[str, Entrance] = {}
        self._avoided: dict[Entrance, float] = {}
        self._relays: Counter[tuple[str, str]] = Counter()
        self._own = HttpServer(
            handler(self._roster),
            limits,
            belongs=lambda requested: self._roster.owner(requested) is None,
            hand_over=self._take_back,
        )
        self._sorry = HttpServer(_say_later, limits)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Lets replicas in; the loop this is called on is the door's."""
        self._path.unlink(missing_ok=True)
        self._rendezvous = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._rendezvous.setblocking(False)
        self._rendezvous.bind(str(self._path))
        self._rendezvous.listen(128)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._rendezvous.fileno(), self._let_in)
        self._own.start()
        self._sorry.start()
        self._ticker = self._loop.call_later(_TICK_S, self._tick)

    def close(self) -> None:
        """Ends it; connections that replicas have go on."""
        self._ticker.cancel()
        self._loop.remove_reader(self._rendezvous.fileno())
        self._rendezvous.close()
        self._path.unlink(missing_ok=True)
        for listening in self._listening.values():
            self._loop.remove_reader(listening.fileno())
            listening.close()
        if self._inner is not None:
            self._loop.remove_reader(self._inner.fileno())
            self._inner.close()
        for channel in (*self._channels.values(), *self._strangers):
            channel.close()
        for task in self._tasks:
            task.cancel()
        self._waiting.close()
        self._own.stop()
        self._sorry.stop()

    # What is asked of it.

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """The address where it listens; of port 0 the one it has at that host, else a free one.

        Raises:
            ClusterError: something else has the port.
        """
        if (known := self._known(host, port)) is not None:
            return known
        for _ in range(int(_RETURN_S / _TICK_S)):
            try:
                listening = _bind(host, port)
                break
            except OSError as error:
                failure = error
            with suppress(TimeoutError):  # replicas may have it, of a door that was here before
                await asyncio.wait_for(self._brought.wait(), _TICK_S)
            if (known := self._known(host, port)) is not None:
                return known
        else:
            raise ClusterError(
                f"{host}:{port} cannot be listened on: {failure}; end what has it, or set "
                "serve.port to another one, 0 for any that is free"
            ) from failure
        self._open(listening)
        for channel in self._channels.values():
            self._try(channel, "hold", listening.fileno())
        return _address(listening)

    def expect(self, model: str) -> None:
        """Clients of the model wait for its replicas from now on."""
        self._roster.expect(model)

    def forget(self, model: str) -> None:
        """The model is deployed no more: who asks for it is told so."""
        self._roster.forget(model)
        for visitor in self._waiting.take(model):
            self._adopt(self._own, visitor)

    def card(self, host: str, asker: str) -> Card:
        """For the door of the node `asker`, which reaches this one at `host`."""
        if self._inner is None:
            self._inner = _bind(host, 0)
            self._loop.add_reader(
                self._inner.fileno(), self._accept, self._inner, self._welcome_door
            )
        entrance = Entrance(
            host=host,
            port=_address(self._inner)[1],
            secret=self._secrets.setdefault(asker, new_secret()),
            certificate=self._certificate,
        )
        relays: dict[str, frozenset[str]] = {}
        for node, model in +self._relays:
            relays[node] = relays.get(node, frozenset()) | {model}
        return Card(entrance=entrance, crowds=self._roster.crowds, relays=relays)

    def meet(self, node: str, card: Card, *, own_node: str) -> None:
        """The door of another node has given its card to this one, which is at `own_node`."""
        if self._avoided.get(card.entrance, -math.inf) > self._loop.time():
            return
        self._entrances[node] = card.entrance
        self._roster.meet(node, card.crowds, card.relays.get(own_node, ()))
        for model, crowd in card.crowds.items():
            if crowd.replicas:
                for visitor in self._waiting.take(model):
                    self._pass_on(visitor, model)

    def part(self, node: str) -> None:
        """The door of another node does not answer."""
        self._entrances.pop(node, None)
        self._roster.part(node)

    def standing(self) -> dict[str, Any]:
        """What it knows, for people and tests."""
        return {
            "addresses": [f"{host}:{port}" for host, port in self._listening],
            "models": sorted(self._roster.models),
            "waiting": len(self._waiting),
            "lost": dict(self._roster.lost),
            "relays": self._relays.total(),
            "replicas": [
                {
                    "replica": place.replica,
                    "model": place.model,
                    "connections": place.connections,
                    "leaving": place.is_leaving,
                    **place.about,
                }
                for place in self._roster
            ],
        }

    # Clients.

    def _accept(self, listening: socket.socket, welcome: Callable[[socket.socket], None]) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                connection, _ = listening.accept()
            except OSError:  # nobody is left, or has gone again
                return
            connection.setblocking(False)
            if self._tls is None:
                welcome(connection)
            else:
                self._keep(decrypt(connection, self._tls, welcome))

    def _welcome_client(self, connection: socket.socket) -> None:
        self._look(Visitor(connection))

    def _welcome_door(self, connection: socket.socket) -> None:
        async def ask() -> None:
            known = await who_knocks(connection, self._secrets)
            if known is None:
                connection.close()
            else:
                self._receive(connection, *known)

        self._keep(ask())

    def _receive(self, connection: socket.socket, node: str, model: str) -> None:
        """From another door, for a replica of this node or for nobody: it does not wait here."""
        self._roster.receive(node, model)
        answer(connection, served=self._give(connection, b"", model))
        connection.close()

    def _look(self, visitor: Visitor) -> None:
        """Sorts a connection by what its client has sent, or waits until it has sent enough."""
        connection = visitor.connection
        try:
            sent = connection.recv(_PEEK_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            self._waiting.watch(visitor, self._look, unread=0)
            return
        except OSError:
            sent = b""
        if not sent:
            connection.close()
            return
        path = path_of(sent)
        if path is None and may_have_path(sent) and len(sent) < _PEEK_BYTES:
            self._waiting.watch(visitor, self._look, unread=len(sent))
        else:
            self._pass_on(visitor, self._roster.owner(path))

    def _pass_on(self, visitor: Visitor, model: str | None) -> None:
        if model is None:
            self._adopt(self._own, visitor)
            return
        if (node := self._roster.choose_far(model)) is not None:
            self._roster.give_far(model, node)
            self._keep(self._send_far(visitor, model, node, self._entrances[node]))
        elif self._give(visitor.connection, visitor.read, model):
            visitor.connection.close()
        else:
            self._waiting.wait(model, visitor)

    def _give(self, connection: socket.socket, read: bytes, model: str) -> bool:
        """Whether a replica of this node has the connection now."""
        while (replica := self._roster.choose(model)) is not None:
            try:
                send_connection(self._channels[replica], "take", connection.fileno(), read)
            except OSError:  # it died this moment
                self._lose(replica)
            else:
                self._roster.give(replica)
                return True
        return False

    async def _send_far(self, visitor: Visitor, model: str, node: str, entrance: Entrance) -> None:
        try:
            far = await knock(entrance, model)
        except UnservedError:
            self._roster.exhaust(model, node)
            self._pass_on(visitor, model)
            return
        except OSError as error:
            _logger.warning(
                "the door of node %s cannot be reached at %s:%d: %r; nodes must be able to connect "
                "to each other at any port",
                node,
                entrance.host,
                entrance.port,
                error,
            )
            self._avoided[entrance] = self._loop.time() + _AVOID_S
            self.part(node)
            self._pass_on(visitor, model)
            return
        self._relays[node, model] += 1
        try:
            await relay(visitor.connection, visitor.read, far)
        finally:
            self._relays[node, model] -= 1

    def _take_back(self, descriptor: int, read: bytes) -> None:
        """A connection of the door itself asks for a model."""
        connection = socket.socket(fileno=os.dup(descriptor))
        self._pass_on(Visitor(connection, read), self._roster.owner(path_of(read)))

    def _adopt(self, server: HttpServer, visitor: Visitor) -> None:
        self._keep(server.adopt(visitor.connection, visitor.read))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Replicas.

    def _let_in(self) -> None:
        try:
            peer, _ = self._rendezvous.accept()
        except OSError:
            return
        channel: Channel
        channel = Channel(
            peer,
            lambda message: self._enter(channel, message),
            lambda: self._strangers.discard(channel),
        )
        self._strangers.add(channel)

    def _enter(self, channel: Channel, message: Message) -> None:
        """The first message of a replica: who it is, and the listening sockets it holds."""
        replica, model = message.values["replica"], message.values["model"]
        self._strangers.discard(channel)
        channel.listen_to(partial(self._hear, replica), partial(self._lose, replica))
        self._channels[replica] = channel
        self._roster.enter(replica, model, message.values["open"])
        for descriptor in message.descriptors:
            self._open(socket.socket(fileno=descriptor))
        if message.descriptors:
            self._brought.set()
        for listening in self._listening.values():
            self._try(channel, "hold", listening.fileno())
        for visitor in self._waiting.take(model):
            self._pass_on(visitor, model)

    def _hear(self, replica: str, message: Message) -> None:
        match message.kind:
            case "load":
                self._roster.report(replica, **message.values)
            case "about":
                self._roster.describe(replica, message.values)
            case "leaving":
                self._roster.retire(replica)
            case "return":
                connection, read = take_connection(message)
                self._pass_on(Visitor(connection, read), self._next_owner(replica, read))

    def _next_owner(self, replica: str, read: bytes) -> str | None:
        """Of a connection that a replica gives back, with what it could not answer."""
        if read:
            return self._roster.owner(path_of(read))
        model = self._roster.model(replica)
        return model if model in self._roster.models else None

    def _lose(self, replica: str) -> None:
        """A replica has gone, with the connections it had."""
        self._roster.leave(replica)
        channel = self._channels.pop(replica, None)
        if channel is not None:
            channel.close()

    def _try(self, channel: Channel, kind: str, *descriptors: int, **values: Any) -> None:
        """Sends what may be lost: a replica that has gone is noticed by its channel's end."""
        try:
            channel.send(kind, *descriptors, **values)
        except OSError as error:
            _logger.info("a replica has gone before it could be told to %s: %s", kind, error)

    def _tick(self) -> None:
        for replica, number in self._roster.overloaded().items():
            self._try(self._channels[replica], "keep", number=number)
        silent, unserved = self._waiting.overdue()
        for visitor in silent:
            visitor.connection.close()
        for visitor in unserved:
            self._adopt(self._sorry, visitor)
        self._ticker = self._loop.call_later(_TICK_S, self._tick)

    # Listening sockets.

    def _known(self, host: str, port: int) -> tuple[str, int] | None:
        matching = (address for address in self._listening if address[0] == host)
        return next((found for found in matching if port in (0, found[1])), None)

    def _open(self, listening: socket.socket) -> None:
        """Accepts from a listening socket, unless it is one it has already."""
        address = _address(listening)
        if address in self._listening:
            listening.close()
            return
        self._listening[address] = listening
        self._loop.add_reader(listening.fileno(), self._accept, listening, self._welcome_client)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    listening.setblocking(False)
    return listening


def _address(listening: socket.socket) -> tuple[str, int]:
    host, port = listening.getsockname()[:2]
    return host, port


def _say_later(request: Request, reply: Reply) -> None:
    message = f"no replica answers for {request.path} at the moment; try again"
    reply(replace(Response.error(503, message, ("retry-after", "1")), closes=True))
