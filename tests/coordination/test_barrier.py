"""The contract of `Barrier`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raymlops.coordination import Coordinator
from raymlops.coordination.barrier import State, arrive, settle
from raymlops.errors import CoordinationError
from tests.coordination.places import Place
from tests.coordination.processes import Other, enter_barrier, until

PARTIES = ["a", "b", "c"]


@pytest.fixture
def parties(place: Place, start: Callable[..., Other]) -> dict[str, Other]:
    return {me: start(enter_barrier, place, "line", PARTIES, me) for me in PARTIES}


def test_all_cross_together_over_and_over(parties: dict[str, Other]) -> None:
    for crossing in range(1, 6):
        for party in ("a", "b"):
            parties[party].tell(20)
        assert not parties["a"].pipe.poll(0.05)
        parties["c"].tell(20)
        assert [other.hear() for other in parties.values()] == [crossing] * 3


def test_who_is_missing_is_named_and_does_not_spoil_the_next_crossing(
    parties: dict[str, Other],
) -> None:
    parties["b"].tell(0.3)
    assert parties["b"].hear() == "'line' waited 0.3 s for: a, c"
    for other in parties.values():
        other.tell(20)
    assert [other.hear() for other in parties.values()] == [1] * 3


def test_a_party_that_died_waiting_does_not_count(
    place: Place,
    coordinator: Coordinator,
    parties: dict[str, Other],
    start: Callable[..., Other],
) -> None:
    barrier = coordinator.barrier("line", PARTIES)
    for party in ("a", "b"):
        parties[party].tell(20)
    until(lambda: barrier.waiting() == ("a", "b"))
    parties["b"].process.kill()
    until(lambda: barrier.waiting() == ("a",))
    parties["c"].tell(0.5)
    assert parties["c"].hear() == "'line' waited 0.5 s for: b"
    assert not parties["a"].pipe.poll(0)
    again = start(enter_barrier, place, "line", PARTIES, "b")
    again.tell(20)
    parties["c"].tell(20)
    assert [other.hear() for other in (parties["a"], again, parties["c"])] == [1] * 3


def test_two_cannot_enter_as_the_same_party(
    coordinator: Coordinator, parties: dict[str, Other]
) -> None:
    parties["a"].tell(20)
    until(lambda: coordinator.barrier("line", PARTIES).waiting() == ("a",))
    with pytest.raises(CoordinationError, match=f"'a' is held by process {parties['a'].pid}"):
        coordinator.barrier("line", PARTIES).enter("a", timeout_s=0.1)


def test_strangers_and_doubles_are_refused(coordinator: Coordinator) -> None:
    with pytest.raises(ValueError, match="'d' is no party of 'line': a, b, c"):
        coordinator.barrier("line", PARTIES).enter("d")
    for parties in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="names of their own"):
            coordinator.barrier("line", parties)


def test_settling_keeps_only_those_who_still_wait_under_the_token_they_came_with() -> None:
    state = arrive(arrive(State(crossings=7), "a", 1), "b", 2)
    assert settle(state, ["a", "b"], {"a": 1, "b": 2}) == State(
        crossings=8, arrived={}, crossed={"a": 1, "b": 2}
    )
    assert settle(state, ["a", "b"], {"a": 1}).arrived == {"a": 1}
    assert settle(state, ["a", "b"], {"a": 1, "b": 3}).arrived == {"a": 1}  # another b by now
