"""Rosters of one model, `flights`, by replica with the connections it has."""

from __future__ import annotations

from raymlops.serve.door.roster import Roster
from raymlops.serve.routing import RoutingName


def roster(**connections: int) -> Roster:
    found = Roster()
    for replica, number in connections.items():
        found.enter(replica, ["flights"], number)
    return found


def routed(routing: RoutingName, **connections: int) -> Roster:
    found = Roster()
    for replica, number in connections.items():
        found.enter(replica, ["flights"], number, routing)
    return found
