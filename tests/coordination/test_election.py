"""The contract of `Election`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raymlops.coordination import Coordinator
from raymlops.coordination.election import Election
from raymlops.errors import CoordinationError, StaleLeaseError
from tests.coordination.places import Place
from tests.coordination.processes import Other, lead, until


def test_the_leader_is_known_while_it_leads(coordinator: Coordinator, place: Place) -> None:
    election = coordinator.election("head", candidate="node-1")
    assert election.leader() is None
    with place.connect() as observer, election.lead(timeout_s=0) as lease:
        leader = observer.election("head").leader()
        assert leader is not None
        assert (leader.owner, leader.token) == ("node-1", lease.token)
    assert election.leader() is None


def test_run_returns_what_the_leader_returned(coordinator: Coordinator) -> None:
    token = coordinator.election("head").run(lambda lease: lease.token, timeout_s=0)
    assert coordinator.election("head").run(lambda lease: lease.token, timeout_s=0) > token


def test_a_second_candidate_is_told_who_leads(coordinator: Coordinator) -> None:
    with (
        coordinator.election("head", candidate="node-1").lead(),
        pytest.raises(CoordinationError, match="'head' is held by node-1; waited 0 s"),
        coordinator.election("head", candidate="node-2").lead(timeout_s=0),
    ):
        pytest.fail("two lead")


def test_when_the_leader_dies_the_next_candidate_leads_and_observers_hear_of_it(
    place: Place, coordinator: Coordinator, start: Callable[..., Other]
) -> None:
    with coordinator.election("head").follow() as leaders:
        assert leaders.next(timeout_s=60) is None
        first = start(lead, place, "head", "node-1")
        token = first.hear()
        leader = leaders.next(timeout_s=60)
        assert leader is not None
        assert (leader.owner, leader.token) == ("node-1", token)
        second = start(lead, place, "head", "node-2")
        until(lambda: len(place.queue("elections/head")) == 2)
        first.process.kill()
        next_token = second.hear()
        leader = leaders.next(timeout_s=60)
        assert leader is not None
        assert (leader.owner, leader.token) == ("node-2", next_token)
        assert next_token > token
        second.tell()
        assert second.hear() == "resigned"


def test_a_leader_that_was_replaced_cannot_announce_itself(coordinator: Coordinator) -> None:
    records = coordinator.key_value("records")
    records.set("head", b'{"owner":"node-2","token":' + str(2**62).encode() + b"}")
    election = Election("head", lock=coordinator.lock("head"), records=records)
    with pytest.raises(StaleLeaseError, match="node-2 leads 'head' under token"), election.lead():
        pytest.fail("a stale leader leads")
