from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.serve.door.crowds import Crowd
from raymlops.serve.door.roster import Roster
from tests.serve.door.rosters import roster, routed


def crowd(replicas: int, connections: int) -> dict[str, Crowd]:
    return {"flights": Crowd(replicas=replicas, connections=connections)}


@given(
    sizes=st.lists(st.integers(0, 3), min_size=2, max_size=4),
    session=st.text(),
)
def test_doors_agree_whose_a_session_is(sizes: list[int], session: str) -> None:
    nodes = [[f"r{node}{number}" for number in range(size)] for node, size in enumerate(sizes)]
    rosters = [routed("consistent_hash", **dict.fromkeys(names, 0)) for names in nodes]
    everybody = routed("consistent_hash", **dict.fromkeys(chain(*nodes), 0))
    wanted = everybody.choose("flights", session)
    for own, door in enumerate(rosters):
        for other, neighbour in enumerate(rosters):
            if other != own:
                door.far.meet(str(other), neighbour.crowds)
        node = door.choose_far("flights", session)
        chooses = door if node is None else rosters[int(node)]
        assert chooses.choose("flights", session) == wanted


def test_connections_to_other_nodes_are_counted_before_they_are_told() -> None:
    found = routed("least_connections", a=2)
    far = routed("least_connections", b=0, c=0)
    found.far.meet("n", far.crowds)
    for _ in range(4):
        assert found.choose_far("flights") == "n"
        found.far.send("flights", "n")
    nodes = []
    for _ in range(6):
        nodes.append(node := found.choose_far("flights"))
        found.give("a") if node is None else found.far.send("flights", node)
    assert nodes.count("n") == 4


def test_nodes_are_dealt_by_the_weights_of_their_replicas() -> None:
    found, far = (routed("weighted_round_robin", **each) for each in ({"a": 0}, {"b": 0, "c": 0}))
    found.describe("a", {"rows_per_s": 2000.0})
    for replica in ("b", "c"):
        far.describe(replica, {"rows_per_s": 1000.0})
    found.far.meet("n", far.crowds)
    assert [found.choose_far("flights") for _ in range(8)].count("n") == 4


def test_a_node_of_an_earlier_version_is_sent_to_when_there_is_less_room_here() -> None:
    found = routed("round_robin", a=4)
    found.far.meet("n", crowd(1, 0))
    assert found.choose_far("flights") == "n"
    found.far.meet("n", crowd(1, 5))
    assert found.choose_far("flights") is None


@pytest.mark.parametrize(
    ("near", "far", "wanted"),
    [
        ({}, {"n": crowd(1, 90)}, "n"),
        ({}, {"n": crowd(0, 0)}, None),
        ({"a": 0}, {"n": crowd(1, 0)}, None),
        ({"a": 1}, {"n": crowd(1, 0)}, "n"),
        ({"a": 4}, {"n": crowd(1, 5)}, None),
        ({"a": 54}, {"n": crowd(1, 45)}, None),  # near enough to the mean
        ({"a": 9}, {"n": crowd(3, 12), "m": crowd(1, 3)}, "m"),
        ({"a": 9}, {"n": crowd(3, 6), "m": crowd(1, 3)}, "n"),
    ],
)
def test_a_connection_goes_far_when_there_is_less_room_near(
    near: dict[str, int], far: dict[str, dict[str, Crowd]], wanted: str | None
) -> None:
    found = roster(**near)
    for node, crowds in far.items():
        found.far.meet(node, crowds)
    assert found.choose_far("flights") == wanted


@given(st.integers(1, 4), st.lists(st.integers(1, 4), max_size=3), st.integers(0, 120))
def test_connections_are_as_even_over_nodes_as_a_replica_tolerates(
    num_near: int, far: list[int], num_clients: int
) -> None:
    found = roster(**{f"r{number}": 0 for number in range(num_near)})
    far_of = {f"n{number}": replicas for number, replicas in enumerate(far)}
    for node, replicas in far_of.items():
        found.far.meet(node, crowd(replicas, 0))
    given_to = dict.fromkeys(far_of, 0)
    for _ in range(num_clients):
        if (node := found.choose_far("flights")) is not None:
            found.far.send("flights", node)
            given_to[node] += 1
        elif (replica := found.choose("flights")) is not None:
            found.give(replica)
    mean = num_clients / (num_near + sum(far))
    shares = [place.connections for place in found]
    shares += [given_to[node] / replicas for node, replicas in far_of.items()]
    assert max(shares) <= max(1.2 * mean + 1, mean + 1)
    assert sum(place.connections for place in found) + sum(given_to.values()) == num_clients


def test_a_node_that_is_lost_is_waited_for_until_its_models_are_forgotten() -> None:
    found = roster()
    found.far.meet("n", crowd(1, 0))
    assert (found.models, found.unserved) == ({"flights"}, frozenset())
    found.far.part("n")
    assert found.choose_far("flights") is None
    assert found.unserved == {"flights"}
    assert found.owner("/v2/models/flights/infer") == "flights"
    found.forget("flights")
    assert found.models == frozenset()


def test_what_was_sent_while_news_was_on_its_way_is_counted() -> None:
    found = roster()
    found.far.meet("n", crowd(1, 0))
    found.far.meet("m", crowd(1, 0))
    found.far.ask("m")
    for node in ("m", "n"):
        assert found.choose_far("flights") == node
        found.far.send("flights", node)
    found.far.meet("m", crowd(1, 0))  # as it was before
    assert found.choose_far("flights") == "m"
    found.far.send("flights", "m")
    assert found.choose_far("flights") == "n"


def test_what_came_from_another_node_does_not_go_back() -> None:
    found = roster(a=8)
    found.far.meet("n", crowd(1, 0))
    assert overloaded(found, n=crowd(1, 0)) == {"a": 4}
    found.far.receive("flights", "n")
    assert found.overloaded() == {}
    assert found.choose_far("flights") is None
    found.far.meet("third", crowd(1, 0))
    assert overloaded(found, third=crowd(1, 0)) == {"a": 4}
    found.far.part("third")
    found.far.meet("n", crowd(1, 0), relayed=())  # all of them have ended
    assert overloaded(found, n=crowd(1, 0)) == {"a": 4}


def overloaded(found: Roster, **news: dict[str, Crowd]) -> dict[str, int]:
    """Who has too many, once that was found and asked about."""
    found.overloaded()
    for node, crowds in news.items():
        found.far.ask(node)
        found.far.meet(node, crowds)
    return found.overloaded()


def test_no_replica_gives_back_on_news_from_before_it_had_too_many() -> None:
    # Seen once: the door of a third node had sent two here and two there, of which this one did
    # not know yet. It sent one over, and three to one they stayed.
    found = roster(a=2)
    found.far.ask("n")
    found.far.meet("n", crowd(1, 0))
    found.far.ask("n")
    assert found.overloaded() == {}
    found.far.meet("n", crowd(1, 0))  # asked for before
    assert found.overloaded() == {}
    found.far.ask("n")
    found.far.meet("n", crowd(1, 2))
    assert found.overloaded() == {}
    assert overloaded(found, n=crowd(1, 0)) == {}  # it had enough room just now
    assert overloaded(found, n=crowd(1, 0)) == {"a": 1}
