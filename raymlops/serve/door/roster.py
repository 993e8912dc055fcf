"""Which replicas stand behind a door and behind those of other nodes, and how crowded they are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from raymlops.serve.door.crowds import Crowd, Crowds
from raymlops.serve.door.dealing import Dealing
from raymlops.serve.door.sorting import is_health, model_of
from raymlops.serve.routing import ReplicaLoad, RoutingName

_TOLERATED_RATIO = 1.2
"""Above this share of the mean a replica gives connections back: with two, 60 of 100."""


@dataclass(slots=True, kw_only=True)
class Place:
    """A replica, as the door sees it; of the `most` connections it takes, earlier versions say
    nothing."""

    replica: str
    models: frozenset[str]
    number: int
    routing: RoutingName | None = None
    most: int | None = None
    open: int = 0
    given: int = 0
    received: int = 0
    is_leaving: bool = False
    is_dying: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def connections(self) -> int:
        """Those it says it has, and those that are on their way to it."""
        return self.open + self.given - self.received

    @property
    def is_standing(self) -> bool:
        """Whether it is given connections."""
        return not (self.is_leaving or self.is_dying)

    @property
    def has_room(self) -> bool:
        return self.most is None or self.connections < self.most

    @property
    def load(self) -> ReplicaLoad:
        """The same for a policy; one that has not measured itself yet counts as one."""
        weight = self.about.get("rows_per_s") or 1.0
        return ReplicaLoad(name=self.replica, in_flight=self.connections, weight=weight)


class Roster:
    """Knows no socket and no clock; the door tells it what happens, and asks it what to do.

    Of other nodes `far` is told, and asked by the roster.
    """

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._models: set[str] = set()
        self.far = Crowds()
        self._crowded: dict[tuple[str, str], Counter[str]] = {}
        self._dealings: dict[str, Dealing] = {}
        self._entered = 0
        self._lost: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Place]:
        return iter(self._places.values())

    @property
    def models(self) -> frozenset[str]:
        """Those that are deployed, here or on other nodes, with and without a replica."""
        return self.far.models | self._models

    @property
    def lost(self) -> Mapping[str, int]:
        """By model, how many replicas went without a word: they were killed, or crashed."""
        return self._lost

    @property
    def unserved(self) -> frozenset[str]:
        """Models nobody answers for at the moment."""
        return frozenset(
            model
            for model in self.models
            if not self._standing(model) and not self.far.reach(model)
        )

    @property
    def crowds(self) -> Mapping[str, Crowd]:
        """By model that is deployed here, what the doors of other nodes are told."""
        crowds: dict[str, Crowd] = {}
        for model in self._models:
            standing = self._standing(model)
            connections = sum(place.connections for place in standing)
            crowds[model] = Crowd(
                replicas=len(standing),
                connections=connections,
                routing=self._routing(model),
                loads=tuple(place.load for place in standing),
            )
        return crowds

    def expect(self, model: str) -> None:
        """Clients of the model wait for a replica from now on, also when there is none yet."""
        self._models.add(model)

    def forget(self, model: str) -> None:
        self._models.discard(model)
        self._dealings.pop(model, None)
        self.far.forget(model)

    def enter(
        self,
        replica: str,
        models: Iterable[str],
        open: int,
        routing: RoutingName | None = None,
        most: int | None = None,
    ) -> None:
        self._models.update(models)
        self._entered += 1
        self._places[replica] = Place(
            replica=replica,
            models=frozenset(models),
            number=self._entered,
            routing=routing,
            most=most,
            open=open,
        )

    def leave(self, replica: str) -> None:
        """It has gone; one that did not say so before is lost to its models, unless they are
        deployed no more."""
        place = self._places.pop(replica, None)
        if place is not None and not place.is_leaving:
            self._lost.update(place.models & self._models)

    def retire(self, replica: str) -> None:
        """Gives it no more connections; it is answering its last requests."""
        self._places[replica].is_leaving = True

    def shun(self, replica: str) -> None:
        """Gives it no more connections; it does not take them, and is about to be lost."""
        self._places[replica].is_dying = True

    def give(self, replica: str) -> None:
        """A connection was sent to it."""
        self._places[replica].given += 1

    def report(self, replica: str, *, open: int, received: int) -> None:
        """What it says of itself: connections it has, and how many it was ever sent."""
        place = self._places[replica]
        place.open, place.received = open, received

    def describe(self, replica: str, about: Mapping[str, Any]) -> None:
        """What people may want to know of it."""
        self._places[replica].about = about

    def models_of(self, replica: str) -> frozenset[str]:
        """Those it serves that are deployed."""
        return self._places[replica].models & self.models

    def owner(self, path: str | None) -> str | None:
        """The model that answers `path`; None when the door itself does.

        What names no model goes to the only one there is, if there is only one.
        """
        if path is not None and is_health(path):
            return None
        named, models = None if path is None else model_of(path), self.models
        if named is not None:
            return named if named in models else None
        return next(iter(models)) if len(models) == 1 else None

    def keeps_sessions(self, model: str) -> bool:
        """Whether it has to be known whose connection to the model is to be given away."""
        dealing = self._dealing(model)
        return dealing is not None and dealing.keeps_sessions

    def choose(self, model: str, session: str = "") -> str | None:
        """The replica that its routing says, or the one with the fewest connections, the newest of
        equals, of those with room; None if there is none."""
        roomy = [place for place in self._standing(model) if place.has_room]
        if not roomy:
            return None
        if (dealing := self._dealing(model)) is not None:
            return dealing.choose([place.load for place in roomy], session)
        return min(roomy, key=lambda place: (place.connections, -place.number)).replica

    def is_full(self, model: str) -> bool:
        """Whether there are replicas here, and each has as many connections as it takes."""
        standing = self._standing(model)
        return bool(standing) and not any(place.has_room for place in standing)

    def choose_far(self, model: str, session: str = "") -> str | None:
        """The node that the next connection should go to: by its routing, if one is set, else if
        replicas there have room for it and those here have not."""
        if not (reach := self.far.reach(model)):
            return None
        standing, dealing = self._standing(model), self._dealing(model)
        if dealing is not None and all(crowd.loads for crowd in reach.values()):
            loads = {node: crowd.even_loads for node, crowd in reach.items()}
            return dealing.choose_node([place.load for place in standing], loads, session)
        far = self.far.elsewhere(model)
        if not far:
            return None
        if standing:
            fewest = min(place.connections for place in standing)
            if fewest + 1 <= _room(standing, far.values(), arriving=1):
                return None
        return min(far, key=lambda node: (far[node].connections / far[node].replicas, node))

    def overloaded(self) -> dict[str, int]:
        """How many connections each replica with too many should keep, of all it has.

        Replicas of other nodes count, unless their doors send connections here. What goes there
        does not come back while it lives, so it goes by news alone that were asked for after a
        replica was found to have too many: older ones may not know of what others sent there.
        What was dealt by weight or session stays where it is.
        """
        keep: dict[str, int] = {}
        before, self._crowded = self._crowded, {}
        for model in self._models:
            standing, far = self._standing(model), self.far.elsewhere(model)
            dealing = self._dealing(model)
            if dealing is not None and not dealing.evens_out:
                continue
            for place in standing:
                if place.connections <= _room(standing, far.values()):
                    continue
                asked = before.get((place.replica, model), self.far.num_asked)
                self._crowded[place.replica, model] = asked
                if self.far.know_more(far, asked):
                    keep[place.replica] = math.ceil(_mean(standing, far.values()))
        return keep

    def _standing(self, model: str) -> list[Place]:
        return [place for place in self if model in place.models and place.is_standing]

    def _dealing(self, model: str) -> Dealing | None:
        """None where connections are to be even."""
        if (routing := self._routing(model)) is None:
            return None
        if (known := self._dealings.get(model)) is None or known.routing != routing:
            self._dealings[model] = known = Dealing(routing)
        return known

    def _routing(self, model: str) -> RoutingName | None:
        """As its newest replica here was deployed, or those of other nodes where there is none."""
        for place in reversed(self._places.values()):
            if model in place.models and place.is_standing:
                return place.routing
        return next(
            (crowd.routing for crowd in self.far.reach(model).values() if crowd.routing), None
        )


def _mean(places: Collection[Place], far: Collection[Crowd], *, arriving: int = 0) -> float:
    connections = sum(place.connections for place in places)
    connections += sum(crowd.connections for crowd in far)
    return (connections + arriving) / (len(places) + sum(crowd.replicas for crowd in far))


def _room(places: Collection[Place], far: Collection[Crowd], *, arriving: int = 0) -> float:
    """How many connections a replica may have before it has too many."""
    mean = _mean(places, far, arriving=arriving)
    return max(_TOLERATED_RATIO * mean, math.ceil(mean))
