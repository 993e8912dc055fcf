from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.serve.door.roster import Roster
from raymlops.serve.routing import POLICIES, RoutingName
from tests.serve.door.rosters import roster, routed


def test_the_replica_with_the_fewest_connections_gets_the_next() -> None:
    found = roster(a=2, b=1)
    chosen = []
    for _ in range(4):
        replica = found.choose("flights")
        assert replica is not None
        found.give(replica)
        chosen.append(replica)
    assert chosen == ["b", "b", "a", "b"]


@given(st.integers(1, 5), st.lists(st.booleans(), max_size=100))
def test_connections_are_even_whatever_has_been_reported_yet(
    num_replicas: int, reports: list[bool]
) -> None:
    found = roster(**{f"r{number}": 0 for number in range(num_replicas)})
    given_to = dict.fromkeys((place.replica for place in found), 0)
    for reported in reports:
        replica = found.choose("flights")
        assert replica is not None
        found.give(replica)
        given_to[replica] += 1
        if reported:
            found.report(replica, open=given_to[replica], received=given_to[replica])
    assert max(given_to.values()) - min(given_to.values()) <= 1


def test_a_replica_that_leaves_gets_no_more() -> None:
    found = roster(a=0, b=5)
    found.retire("a")
    assert found.choose("flights") == "b"
    found.leave("b")
    assert found.choose("flights") is None
    assert found.unserved == {"flights"}


def test_a_replica_that_is_dying_gets_no_more_and_is_lost_once_it_has_gone() -> None:
    found = roster(a=0, b=5)
    found.shun("a")
    assert found.choose("flights") == "b"
    assert found.lost == {}
    found.leave("a")
    assert found.lost == {"flights": 1}


@pytest.mark.parametrize(
    ("connections", "wanted"),
    [
        ({"a": 32, "b": 0}, {"a": 16}),
        ({"a": 6, "b": 4}, {}),
        ({"a": 7, "b": 4}, {"a": 6}),
        ({"a": 1, "b": 0}, {}),
        ({"a": 9, "b": 9, "c": 0}, {"a": 6, "b": 6}),
        ({"a": 5}, {}),
    ],
)
def test_who_has_too_many_gives_back_down_to_the_mean(
    connections: dict[str, int], wanted: dict[str, int]
) -> None:
    assert roster(**connections).overloaded() == wanted


@pytest.mark.parametrize("routing", [None, "consistent_hash", "weighted_round_robin"])
def test_a_replica_that_is_full_is_given_no_more(routing: RoutingName | None) -> None:
    found = Roster()
    assert not found.is_full("flights")
    found.enter("a", ["flights"], 0, routing, most=2)
    found.enter("b", ["flights"], 0, routing, most=1)
    assert sorted(dealt(found, *"123")) == ["a", "a", "b"]
    assert (found.choose("flights", "4"), found.is_full("flights")) == (None, True)
    found.report("a", open=1, received=2)
    assert (found.choose("flights", "4"), found.is_full("flights")) == ("a", False)
    found.enter("c", ["flights"], 10_000, routing)  # of an earlier version: it does not say
    found.give("a")
    assert (found.choose("flights", "5"), found.is_full("flights")) == ("c", False)


def dealt(found: Roster, *sessions: str) -> str:
    """Whose a connection of each session is, a letter each."""
    chosen = []
    for session in sessions:
        replica = found.choose("flights", session)
        assert replica is not None
        found.give(replica)
        chosen.append(replica)
    return "".join(chosen)


def test_connections_are_dealt_as_the_model_is_routed() -> None:
    found = routed("round_robin", a=9, b=0)
    assert dealt(found, *"12345") == "ababa"
    assert dealt(routed("least_connections", a=2, b=0), *"12345") == "bbaba"
    weighted = routed("weighted_round_robin", a=0, b=0)
    weighted.describe("a", {"rows_per_s": 3000.0})
    weighted.describe("b", {"rows_per_s": 1000.0})
    assert dealt(weighted, *"12345678") == "aabaaaba"


@pytest.mark.parametrize("routing", POLICIES)
def test_only_weighted_round_robin_goes_by_what_replicas_measure(routing: RoutingName) -> None:
    found = routed(routing, a=0, b=0)
    found.describe("a", {"rows_per_s": 1e9})
    found.describe("b", {"rows_per_s": None})  # it has not measured itself yet
    sessions = [f"session-{number}" for number in range(40)]
    given_to_a = dealt(found, *sessions).count("a")
    assert given_to_a == 40 if routing == "weighted_round_robin" else given_to_a <= 30


def test_a_session_stays_with_its_replica_whatever_else_it_has() -> None:
    found = routed("consistent_hash", a=0, b=0, c=0)
    sessions = [f"session-{number}" for number in range(3000)]
    before = dealt(found, *sessions)
    found.describe("a", {"rows_per_s": 1e9})
    assert dealt(found, *sessions) == before
    assert found.overloaded() == {}
    found.enter("d", ["flights"], 0, "consistent_hash")
    after = dealt(found, *sessions)
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {"d"}
    assert len(moved) / len(sessions) <= 1 / 4 + 0.05


def test_a_model_that_is_deployed_again_is_routed_as_it_is_then() -> None:
    found = routed("round_robin", a=9, b=0)
    assert (found.keeps_sessions("flights"), found.keeps_sessions("trains")) == (False, False)
    found.enter("c", ["flights"], 5, "consistent_hash")
    assert found.keeps_sessions("flights")
    found.retire("c")  # the deployment was taken back
    assert not found.keeps_sessions("flights")
    assert dealt(found, *"12") == "ab"
    found.enter("d", ["flights"], 0)
    assert dealt(found, *"123456789") == "ddbdbdbdb"
    assert Roster().choose("flights") is None


@pytest.mark.parametrize(
    ("routing", "wanted"),
    [
        ("round_robin", {"a": 16}), ("least_connections", {"a": 16}), ("power_of_two", {"a": 16}),
        ("weighted_round_robin", {}), ("consistent_hash", {}),
    ],
)  # fmt: skip
def test_nobody_gives_back_what_is_uneven_by_its_routing(
    routing: RoutingName, wanted: dict[str, int]
) -> None:
    assert routed(routing, a=32, b=0).overloaded() == wanted


def test_paths_go_to_the_model_they_name_or_to_the_only_one() -> None:
    found = roster(a=0)
    assert found.owner("/v2/models/flights/infer") == "flights"
    assert found.owner("/v2/models/other/infer") is None
    assert found.owner("/v2/health/ready") is None
    assert found.owner("/predict") == "flights"
    assert found.owner(None) == "flights"
    found.expect("other")
    assert found.owner("/predict") is None
    assert found.owner("/v2/models/other/infer") == "other"
    found.forget("other")
    assert found.owner("/v2/models/other/infer") is None
