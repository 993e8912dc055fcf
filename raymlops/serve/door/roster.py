"""Which replicas stand behind a door, for which models, and with how many connections each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from raymlops.serve.door.sorting import is_health, model_of

_TOLERATED_RATIO = 1.2
"""Above this share of the mean a replica gives connections back: with two, 60 of 100."""


@dataclass(slots=True, kw_only=True)
class Place:
    """A replica, as the door sees it."""

    replica: str
    model: str
    number: int
    open: int = 0
    given: int = 0
    received: int = 0
    is_leaving: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def connections(self) -> int:
        """Those it says it has, and those that are on their way to it."""
        return self.open + self.given - self.received


class Roster:
    """Knows no socket and no clock; the door tells it what happens, and asks it what to do."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._models: set[str] = set()
        self._entered = 0
        self._lost: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Place]:
        return iter(self._places.values())

    @property
    def models(self) -> frozenset[str]:
        """Those that are deployed, with and without a replica at the moment."""
        return frozenset(self._models)

    @property
    def lost(self) -> Mapping[str, int]:
        """By model, how many replicas went without a word: they were killed, or crashed."""
        return self._lost

    @property
    def unserved(self) -> frozenset[str]:
        """Models nobody answers for at the moment."""
        return self.models - {place.model for place in self if not place.is_leaving}

    def expect(self, model: str) -> None:
        """Clients of the model wait for a replica from now on, also when there is none yet."""
        self._models.add(model)

    def forget(self, model: str) -> None:
        self._models.discard(model)

    def enter(self, replica: str, model: str, open: int) -> None:
        self.expect(model)
        self._entered += 1
        place = Place(replica=replica, model=model, number=self._entered, open=open)
        self._places[replica] = place

    def leave(self, replica: str) -> None:
        """It has gone; one that did not say so before is lost, unless its model is deployed no
        more."""
        place = self._places.pop(replica, None)
        if place is not None and not place.is_leaving and place.model in self._models:
            self._lost[place.model] += 1

    def retire(self, replica: str) -> None:
        """Gives it no more connections; it is answering its last requests."""
        self._places[replica].is_leaving = True

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

    def model(self, replica: str) -> str:
        return self._places[replica].model

    def owner(self, path: str | None) -> str | None:
        """The model that answers `path`; None when the door itself does.

        What names no model goes to the only one there is, if there is only one.
        """
        if path is not None and is_health(path):
            return None
        named = None if path is None else model_of(path)
        if named is not None:
            return named if named in self._models else None
        return next(iter(self._models)) if len(self._models) == 1 else None

    def choose(self, model: str) -> str | None:
        """The replica with the fewest connections, the newest of equals; None if there is none."""
        standing = [place for place in self if place.model == model and not place.is_leaving]
        if not standing:
            return None
        return min(standing, key=lambda place: (place.connections, -place.number)).replica

    def overloaded(self) -> dict[str, int]:
        """How many connections each replica with too many should keep, of all it has."""
        keep: dict[str, int] = {}
        for model in self._models:
            standing = [place for place in self if place.model == model and not place.is_leaving]
            for place in standing:
                mean = sum(each.connections for each in standing) / len(standing)
                if place.connections > max(_TOLERATED_RATIO * mean, math.ceil(mean)):
                    keep[place.replica] = math.ceil(mean)
        return keep
