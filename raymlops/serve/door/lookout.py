"""The doors of a cluster find each other: each asks the others for their cards, over and over."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from raymlops.cluster.actors import NAMESPACE
from raymlops.serve.door.door import Door
from raymlops.serve.door.neighbours import Card

_logger = logging.getLogger(__name__)

_EVERY_S = 1.0
_ANSWER_S = 2.0
_NAME = "raymlops-door"


def door_name(node_id: str) -> str:
    """The name of the actor that is the door of a node."""
    return f"{_NAME}-{node_id[:16]}"


def living_nodes() -> dict[str, str]:
    """The addresses of the nodes there are, by their ids."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray types it not
    return {node["NodeID"]: node["NodeManagerAddress"] for node in nodes if node["Alive"]}


class Lookout:
    """Introduces `door`, which is at `node_id`, to those of other nodes."""

    def __init__(self, door: Door, node_id: str) -> None:
        self._door = door
        self._node_id = node_id
        self._others: dict[str, Any] = {}

    async def run(self) -> None:
        """Never returns."""
        while True:
            try:
                await self._look_around()
            except Exception:  # the boundary of this task: a door that sees nobody serves its node
                _logger.exception("the doors of other nodes cannot be found; trying again")
            await asyncio.sleep(_EVERY_S)

    async def _look_around(self) -> None:
        living = await asyncio.to_thread(living_nodes)
        for node in self._others.keys() - living.keys():
            self._lose(node)
        await asyncio.gather(*(self._visit(node) for node in living if node != self._node_id))

    async def _visit(self, node: str) -> None:
        import ray
        from ray.exceptions import RayError

        if node not in self._others:
            try:
                found = await asyncio.to_thread(ray.get_actor, door_name(node), NAMESPACE)
            except ValueError:  # nothing is deployed there
                return
            self._others[node] = found
        self._door.ask(node)
        try:
            asked = self._others[node].card.remote(self._node_id)
            card: Card = await asyncio.wait_for(asked, _ANSWER_S)
        except (RayError, TimeoutError) as error:
            _logger.info("the door of node %s does not answer: %r", node, error)
            self._lose(node)
            return
        self._door.meet(node, card, own_node=self._node_id)

    def _lose(self, node: str) -> None:
        self._others.pop(node, None)
        self._door.part(node)
