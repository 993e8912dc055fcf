"""A line that its parties cross together, over and over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import orjson

from raymlops.coordination.base import Entry, KeyValue, Lock
from raymlops.coordination.deadline import Deadline
from raymlops.errors import CoordinationError


@dataclass(frozen=True, kw_only=True)
class State:
    """`crossings` so far; the tokens of who arrived since, and of who made the latest crossing."""

    crossings: int = 0
    arrived: Mapping[str, int] = field(default_factory=dict)
    crossed: Mapping[str, int] = field(default_factory=dict)


def arrive(state: State, party: str, token: int) -> State:
    return replace(state, arrived={**state.arrived, party: token})


def settle(state: State, parties: Sequence[str], alive: Mapping[str, int]) -> State:
    """After all have arrived: the crossing, or, where some died since, the state without them.

    `alive` has the token under which each party waits at this moment.
    """
    present = {party: token for party, token in state.arrived.items() if alive.get(party) == token}
    if len(present) < len(parties):
        return replace(state, arrived=present)
    return State(crossings=state.crossings + 1, arrived={}, crossed=present)


class Barrier:
    """Opens when every one of `parties` waits at it, alive, then closes for the next round.

    coordinator.barrier("epoch", ["worker-0", "worker-1"]).enter("worker-0", timeout_s=60)
    """

    def __init__(
        self,
        name: str,
        parties: Sequence[str],
        *,
        states: KeyValue,
        place: Callable[[str], Lock],
    ) -> None:
        if not parties or len(set(parties)) != len(parties):
            raise ValueError(f"a barrier needs parties with names of their own, not {parties}")
        self._name = name
        self._parties = tuple(parties)
        self._states = states
        self._place = place  # of each party: held while it waits, so that its death shows

    def enter(self, party: str, *, timeout_s: float | None = None) -> int:
        """Waits for all others; returns which crossing this was, from 1.

        Raises:
            CoordinationError: not all came within `timeout_s`; says who was missing. This party
                has left again, so no later one counts on it.
        """
        if party not in self._parties:
            raise ValueError(f"'{party}' is no party of '{self._name}': {', '.join(self._parties)}")
        deadline = Deadline(timeout_s)
        with (
            self._place(party).hold(timeout_s=timeout_s) as lease,
            self._states.watch(self._name) as changes,
        ):
            before = self._change(lambda state: self._arrive(state, party, lease.token))
            try:
                state = _decode(changes.next(timeout_s=deadline.left_s))
                while state.crossings == before.crossings:
                    state = _decode(changes.next(timeout_s=deadline.left_s))
            except BaseException as error:
                waiting = self.waiting()
                state = self._leave(party, before.crossings, lease.token)
                if state.crossings == before.crossings:
                    if isinstance(error, TimeoutError):
                        missing = [each for each in self._parties if each not in waiting]
                        raise CoordinationError(
                            f"'{self._name}' waited {timeout_s:g} s for: {', '.join(missing)}"
                        ) from error
                    raise
            # Without us there is no crossing, unless somebody took our name after our session died.
            if state.crossings != before.crossings + 1 or state.crossed[party] != lease.token:
                raise CoordinationError(
                    f"'{self._name}' was crossed by another '{party}' after this one's session died"
                )
            return state.crossings

    def waiting(self) -> tuple[str, ...]:
        """The parties that wait at this moment."""
        arrived, alive = _decode(self._states.get(self._name)).arrived, self._alive()
        return tuple(
            party
            for party in self._parties
            if party in arrived and arrived[party] == alive.get(party)
        )

    def _arrive(self, state: State, party: str, token: int) -> State:
        state = arrive(state, party, token)
        complete = set(state.arrived) == set(self._parties)
        return settle(state, self._parties, self._alive()) if complete else state

    def _leave(self, party: str, crossings: int, token: int) -> State:
        def without(state: State) -> State:
            if state.crossings != crossings or state.arrived.get(party) != token:
                return state
            rest = {name: other for name, other in state.arrived.items() if name != party}
            return replace(state, arrived=rest)

        self._change(without)
        return _decode(self._states.get(self._name))

    def _alive(self) -> dict[str, int]:
        holders = {party: self._place(party).holder() for party in self._parties}
        return {party: holder.token for party, holder in holders.items() if holder is not None}

    def _change(self, act: Callable[[State], State]) -> State:
        """The state that was replaced by what `act` makes of it."""
        while True:
            entry = self._states.get(self._name)
            state, version = _decode(entry), entry.version if entry else 0
            value = orjson.dumps(asdict(act(state)), option=orjson.OPT_SORT_KEYS)
            if self._states.compare_and_set(self._name, value, version=version):
                return state


def _decode(entry: Entry | None) -> State:
    return State(**orjson.loads(entry.value)) if entry else State()
