"""The door of a node: where clients connect, and from where they are given to replicas.

    client --connect--> door --looks at the first bytes--> replica of that model
    client <------------------- requests and answers -------------------> replica

The door accepts, peeks at the path that is asked for, and passes the connected socket on to the
replica of that model with the fewest connections, or to the one that the model's routing says. No
request passes through it. A connection that asks for another model later, or whose replica leaves,
comes back and goes on to the next one; its client notices nothing.

Doors of several nodes know each other. When the replicas of another node have room for a
connection and those here have not, or there are none here, or the routing says one there, it goes
on to the door there, and its bytes are copied (`relay`): any door is an address for all models.

Replicas hold the listening sockets too, without accepting. When the door dies, clients wait in the
kernel's queue until it is back and has taken the sockets from them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from raymlops.errors import ClusterError
from raymlops.serve.door.answering import Answering
from raymlops.serve.door.handing import Hands
from raymlops.serve.door.listening import Address, Listeners, address_of
from raymlops.serve.door.neighbours import Card, Neighbours
from raymlops.serve.door.reception import Reception
from raymlops.serve.door.rendezvous import Rendezvous
from raymlops.serve.door.roster import Roster
from raymlops.serve.door.tasks import Tasks
from raymlops.serve.door.tls import Encryption, TlsFiles
from raymlops.serve.door.waiting import Visitor, WaitingRoom
from raymlops.serve.door.wire import Channel, Message
from raymlops.serve.http import HttpLimits, Strayed
from raymlops.serve.web import Handler

_logger = logging.getLogger(__name__)

_TICK_S = 0.25
_WAIT_S = 30.0
"""How long a client waits for a model that has no replica at the moment."""
_RETURN_S = 5.0
"""How long a door that was started again waits for replicas to bring a listening socket."""


class Door:
    """Accepts for the replicas of this node that connect to the socket at `path`.

    Args:
        handler: answers what no replica can, given the models and those that have no replica.
        tls: what connections are encrypted by; plain ones are refused then. Files that are replaced
            are taken for new connections. Where they do not fit nobody is let in until they do: a
            door that comes back has clients who wait, and sockets to take.
    """

    def __init__(
        self,
        path: Path,
        handler: Callable[[Roster], Handler],
        limits: HttpLimits,
        *,
        tls: TlsFiles | None = None,
    ) -> None:
        self._rendezvous = Rendezvous(path, enter=self._enter)
        self._roster = Roster()
        self._tasks = Tasks()
        self._tls = None if tls is None else Encryption(tls)
        self._waiting = WaitingRoom(_WAIT_S)
        self._reception = Reception(self._roster, self._waiting, pass_on=self._pass_on)
        self._listeners = Listeners(self._reception.welcome, tls=self._tls, tasks=self._tasks)
        self._brought = asyncio.Event()
        self._hands: dict[str, Hands] = {}
        self._full: set[str] = set()
        self._neighbours = Neighbours(
            self._roster,
            tls=self._tls,
            tasks=self._tasks,
            give=self._give,
            pass_on=self._pass_on,
        )
        self._answering = Answering(
            handler(self._roster),
            limits,
            belongs=lambda requested: self._roster.owner(requested) is None,
            hand_over=self._take_back,
            tasks=self._tasks,
        )

    def start(self) -> None:
        """Lets replicas in; the loop this is called on is the door's."""
        self._rendezvous.open()
        self._loop = asyncio.get_running_loop()
        self._answering.start()
        self._ticker = self._loop.call_later(_TICK_S, self._tick)

    def close(self) -> None:
        """Ends it; connections that replicas have go on."""
        self._ticker.cancel()
        self._rendezvous.close()
        self._listeners.close()
        self._neighbours.close()
        for hands in self._hands.values():
            hands.close()
        self._tasks.cancel()
        self._waiting.close()
        self._answering.stop()

    # What is asked of it.

    async def listen(self, host: str, port: int) -> Address:
        """The address where it listens; of port 0 the one it has at that host, else a free one.

        Raises:
            ClusterError: something else has the port.
        """
        if (known := self._listeners.known(host, port)) is not None:
            return known
        for _ in range(int(_RETURN_S / _TICK_S)):
            try:
                listening = self._listeners.bind(host, port)
                break
            except OSError as error:
                failure = error
            with suppress(TimeoutError):  # replicas may have it, of a door that was here before
                await asyncio.wait_for(self._brought.wait(), _TICK_S)
            if (known := self._listeners.known(host, port)) is not None:
                return known
        else:
            raise ClusterError(
                f"{host}:{port} cannot be listened on: {failure}; end what has it, or set "
                "serve.port to another one, 0 for any that is free"
            ) from failure
        for hands in self._hands.values():
            self._try(hands.channel, "hold", listening.fileno())
        return address_of(listening)

    def expect(self, model: str) -> None:
        """Clients of the model wait for its replicas from now on."""
        self._roster.expect(model)

    def forget(self, model: str) -> None:
        """The model is deployed no more: who asks for it is told so."""
        self._roster.forget(model)
        for visitor in self._waiting.take(model):
            self._answering.answer(visitor)

    def card(self, host: str, asker: str) -> Card:
        """For the door of the node `asker`, which reaches this one at `host`."""
        return self._neighbours.card(host, asker)

    def ask(self, node: str) -> None:
        """The door of another node is asked for its card, which comes later."""
        self._roster.far.ask(node)

    def meet(self, node: str, card: Card, *, own_node: str) -> None:
        """The door of another node has given its card to this one, which is at `own_node`."""
        self._neighbours.meet(node, card, own_node=own_node)
        for model, crowd in card.crowds.items():
            if crowd.replicas:
                for visitor in self._waiting.take(model):
                    self._pass_on(visitor, model)

    def part(self, node: str) -> None:
        """The door of another node does not answer."""
        self._neighbours.part(node)

    def standing(self) -> dict[str, Any]:
        """What it knows, for people and tests."""
        return {
            "addresses": [f"{host}:{port}" for host, port in self._listeners.addresses],
            "models": sorted(self._roster.models),
            "waiting": len(self._waiting),
            "lost": dict(self._roster.lost),
            "relays": self._neighbours.num_relays,
            "problem": None if self._tls is None else self._tls.problem,
            "certificate": None if self._tls is None else self._tls.shown(),
            "replicas": [
                {
                    "replica": place.replica,
                    "models": sorted(place.models),
                    "connections": place.connections,
                    "leaving": place.is_leaving,
                    **place.about,
                }
                for place in self._roster
            ],
        }

    # Clients.

    def _pass_on(self, visitor: Visitor, model: str | None) -> None:
        if model is None:
            self._answering.answer(visitor)
            return
        if self._roster.keeps_sessions(model) and not self._reception.recognise(visitor):
            return
        if (node := self._roster.choose_far(model, visitor.session)) is not None:
            self._neighbours.send(visitor, model, node)
        elif self._give(visitor, model):
            visitor.connection.close()
        elif self._roster.is_full(model):  # places become free by the minute, not by the moment
            self._turn_away(visitor, model)
        else:
            self._waiting.wait(model, visitor)

    def _turn_away(self, visitor: Visitor, model: str) -> None:
        if model not in self._full:
            self._full.add(model)
            _logger.warning(
                "replicas of %s have all connections that they take (serve.http.max_connections, "
                "descriptors of a process): more are answered 503",
                model,
            )
        self._answering.say_later(visitor)

    def _give(self, visitor: Visitor, model: str) -> bool:
        """Whether a replica of this node has the connection now."""
        while (replica := self._roster.choose(model, visitor.session)) is not None:
            try:
                self._hands[replica].give(visitor.connection.fileno(), visitor.strayed)
            except ConnectionError:  # it died this moment, as its channel is about to tell
                self._roster.shun(replica)
            else:
                self._roster.give(replica)
                return True
        return False

    def _take_back(self, descriptor: int, strayed: Strayed | None) -> None:
        """A connection of the door itself asks for a model."""
        assert strayed is not None
        visitor = Visitor(socket.socket(fileno=os.dup(descriptor)), strayed)
        self._pass_on(visitor, self._roster.owner(strayed.path))

    # Replicas.

    def _enter(self, channel: Channel, message: Message) -> None:
        """The first message of a replica: who it is, and the listening sockets it holds."""
        replica, models = message.values["replica"], message.values["models"]
        channel.listen_to(partial(self._hear, replica), partial(self._lose, replica))
        self._hands[replica] = Hands(channel)
        # Replicas of earlier versions say nothing of the last two.
        routing, most = message.values.get("routing"), message.values.get("most")
        self._roster.enter(replica, models, message.values["open"], routing, most)
        for descriptor in message.descriptors:
            self._listeners.open(socket.socket(fileno=descriptor))
        if message.descriptors:
            self._brought.set()
        for listening in self._listeners:
            self._try(channel, "hold", listening.fileno())
        for model in models:
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
            case "taken":
                self._hands[replica].settle()
            case "given":
                if (taken := self._hands[replica].take(message)) is None:
                    return
                visitor = Visitor(*taken)
                models = self._roster.models_of(replica)
                owner = self._next_owner(models, visitor.strayed)
                if visitor.strayed is not None and owner in models:  # it would come back for ever
                    self._answering.answer_once(visitor)
                else:
                    self._pass_on(visitor, owner)

    def _next_owner(self, models: frozenset[str], strayed: Strayed | None) -> str | None:
        """Of a connection that a replica of `models` has no more, with what it did not answer.

        By the path as it was parsed there: one that is read otherwise here goes round in circles.
        """
        if strayed is not None:
            return self._roster.owner(strayed.path)
        return min(models, default=None)

    def _lose(self, replica: str) -> None:
        """A replica has gone, with the connections it had, but not with those it did not take."""
        models = self._roster.models_of(replica)
        self._roster.leave(replica)
        for connection, strayed in self._hands.pop(replica).left():
            self._pass_on(Visitor(connection, strayed), self._next_owner(models, strayed))

    def _try(self, channel: Channel, kind: str, *descriptors: int, **values: Any) -> None:
        """Sends what may be lost: a replica that has gone is noticed by its channel's end."""
        try:
            channel.send(kind, *descriptors, **values)
        except OSError as error:
            _logger.info("a replica has gone before it could be told to %s: %s", kind, error)

    def _tick(self) -> None:
        if self._tls is not None:
            self._tls.renew()
        self._full = {model for model in self._full if self._roster.is_full(model)}
        for replica, number in self._roster.overloaded().items():
            self._try(self._hands[replica].channel, "keep", number=number)
        silent, unserved = self._waiting.overdue()
        for visitor in silent:
            visitor.connection.close()
        for visitor in unserved:
            self._answering.say_later(visitor)
        self._ticker = self._loop.call_later(_TICK_S, self._tick)
