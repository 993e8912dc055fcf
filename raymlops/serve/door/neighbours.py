"""The doors of other nodes: what is sent to them, and what comes from them."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from raymlops.errors import ConfigError
from raymlops.serve.door.crowds import Crowd
from raymlops.serve.door.listening import Listeners, address_of
from raymlops.serve.door.relay import (
    Entrance,
    UnservedError,
    answer,
    knock,
    new_secret,
    relay,
    who_knocks,
)
from raymlops.serve.door.roster import Roster
from raymlops.serve.door.tasks import Tasks
from raymlops.serve.door.tls import Encryption
from raymlops.serve.door.waiting import Visitor

_logger = logging.getLogger(__name__)

_AVOID_S = 10.0
"""How long a door that cannot be reached, although it says where it is, is left alone."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a door tells those of other nodes: how to come in, what it has by model, and by node
    the models whose connections it sends there."""

    entrance: Entrance
    crowds: Mapping[str, Crowd]
    relays: Mapping[str, frozenset[str]]


class Neighbours:
    """Belongs to one door and its event loop.

    Args:
        give: whether a replica of this node takes a connection to the model.
        pass_on: finds another place for who could not be sent.
    """

    def __init__(
        self,
        roster: Roster,
        *,
        tls: Encryption | None,
        tasks: Tasks,
        give: Callable[[Visitor, str], bool],
        pass_on: Callable[[Visitor, str], None],
    ) -> None:
        self._roster = roster
        self._tasks = tasks
        self._give = give
        self._pass_on = pass_on
        self._tls = tls
        self._listeners = Listeners(self._let_in, tls=tls, tasks=tasks)
        self._inner: socket.socket | None = None
        self._secrets: dict[str, bytes] = {}
        self._entrances: dict[str, Entrance] = {}
        self._avoided: dict[Entrance, float] = {}
        self._relays: Counter[tuple[str, str]] = Counter()

    @property
    def num_relays(self) -> int:
        """Connections that go on to other nodes."""
        return self._relays.total()

    def card(self, host: str, asker: str) -> Card:
        """For the door of the node `asker`, which reaches this one at `host`.

        Raises ConfigError while there is no certificate to meet it by.
        """
        if self._tls is not None and self._tls.context is None:
            raise ConfigError(str(self._tls.problem))
        if self._inner is None:
            self._inner = self._listeners.bind(host, 0)
        entrance = Entrance(
            host=host,
            port=address_of(self._inner)[1],
            secret=self._secrets.setdefault(asker, new_secret()),
            certificate=None if self._tls is None else self._tls.certificate.decode(),
        )
        relays: dict[str, frozenset[str]] = {}
        for node, model in +self._relays:
            relays[node] = relays.get(node, frozenset()) | {model}
        return Card(entrance=entrance, crowds=self._roster.crowds, relays=relays)

    def meet(self, node: str, card: Card, *, own_node: str) -> None:
        """The door of another node has given its card to this one, which is at `own_node`."""
        now = asyncio.get_running_loop().time()
        if self._avoided.get(card.entrance, -math.inf) > now:
            return
        self._entrances[node] = card.entrance
        self._roster.far.meet(node, card.crowds, card.relays.get(own_node, ()))

    def part(self, node: str) -> None:
        """The door of another node does not answer."""
        self._entrances.pop(node, None)
        self._roster.far.part(node)

    def send(self, visitor: Visitor, model: str, node: str) -> None:
        """To a replica of `node`, which the roster chose; what cannot be sent is passed on."""
        self._roster.far.send(model, node)
        self._tasks.start(self._send(visitor, model, node, self._entrances[node]))

    def close(self) -> None:
        self._listeners.close()

    async def _send(self, visitor: Visitor, model: str, node: str, entrance: Entrance) -> None:
        try:
            far = await knock(entrance, model, visitor.session)
        except UnservedError:
            self._roster.far.exhaust(model, node)
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
            self._avoided[entrance] = asyncio.get_running_loop().time() + _AVOID_S
            self.part(node)
            self._pass_on(visitor, model)
            return
        self._relays[node, model] += 1
        try:
            await relay(visitor.connection, visitor.read, far)
        finally:
            self._relays[node, model] -= 1

    def _let_in(self, connection: socket.socket) -> None:
        self._tasks.start(self._receive(connection))

    async def _receive(self, connection: socket.socket) -> None:
        """From another door, for a replica of this node or for nobody: it does not wait here."""
        known = await who_knocks(connection, self._secrets)
        if known is not None:
            node, model, session = known
            self._roster.far.receive(model, node)
            visitor = Visitor(connection, session=session)
            answer(connection, served=self._give(visitor, model))
        connection.close()
