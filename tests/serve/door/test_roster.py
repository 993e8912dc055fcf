from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.serve.door.roster import Crowd, Roster
from raymlops.serve.door.sorting import (
    may_have_path,
    may_have_session,
    model_of,
    path_of,
    session_of,
)
from raymlops.serve.routing import POLICIES, RoutingName


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        (b"GET /v2/models/flights HTTP/1.1\r\n", "/v2/models/flights"),
        (b"GET /v2/models/flights", None),
        (b"POST /v2/models/a%2Db/infer?x HTTP/1.1", "/v2/models/a-b/infer"),
        (b"\r\n\r\nGET /v2 HTTP/1.1\r\n", "/v2"),
        (b"GET http://a:80/v2/health/live HTTP/1.1", "/v2/health/live"),
        (b"\x16\x03\x01\x02\x00", None),
        (b"", None),
    ],
)
def test_a_path_is_told_once_it_is_complete(sent: bytes, wanted: str | None) -> None:
    assert path_of(sent) == wanted


@given(cut=st.integers(0, 60))
def test_a_path_is_waited_for_while_it_may_come(cut: int) -> None:
    sent = b"\r\nPOST /v2/models/flights/infer HTTP/1.1\r\nHost: a\r\n"[:cut]
    assert path_of(sent) in (None, "/v2/models/flights/infer")
    assert path_of(sent) is not None or may_have_path(sent)


@pytest.mark.parametrize("sent", [b"\x16\x03\x01", b"hello\r\n", b"get / HTTP/1.1"])
def test_what_is_not_http_is_not_waited_for(sent: bytes) -> None:
    assert path_of(sent) is None
    assert not may_have_path(sent)


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        (b"X-Session-Id: anna\r\n\r\n", "anna"),
        (b"a: b\r\nx-session-id:\tanna b \r\nc: d\r\n", "anna b"),
        (b"x-session-id: an", None),
        (b"x-session-id: \r\n\r\n", None),
        (b"my-x-session-id: anna\r\n\r\n", None),
        (b"a: b\r\n\r\n\r\nx-session-id: in the body\r\n", None),
    ],
)
def test_a_session_is_told_once_its_header_is_complete(headers: bytes, wanted: str | None) -> None:
    assert session_of(b"POST /v2 HTTP/1.1\r\n" + headers) == wanted


@given(cut=st.integers(0, 80))
def test_a_session_is_waited_for_while_it_may_come(cut: int) -> None:
    sent = b"POST /v2 HTTP/1.1\r\nHost: a\r\nX-Session-Id: anna\r\n\r\n{}"[:cut]
    assert session_of(sent) in (None, "anna")
    assert session_of(sent) is not None or may_have_session(sent)
    assert not may_have_session(b"hello\r\n")
    assert not may_have_session(b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/v2/models/flights", "flights"),
        ("/v2/models/flights/versions/1.0.0/infer", "flights"),
        ("/v2/repository/models/flights/load", "flights"),
        ("/v1/models/flights:predict", "flights"),
        ("/v1/models/flights/versions/1:predict", "flights"),
        ("/v2/health/ready", None),
        ("/predict", None),
    ],
)
def test_a_path_names_its_model(path: str, wanted: str | None) -> None:
    assert model_of(path) == wanted


def roster(**connections: int) -> Roster:
    found = Roster()
    for replica, number in connections.items():
        found.enter(replica, ["flights"], number)
    return found


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


def routed(routing: RoutingName, **connections: int) -> Roster:
    found = Roster()
    for replica, number in connections.items():
        found.enter(replica, ["flights"], number, routing)
    return found


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


@given(
    sizes=st.lists(st.integers(0, 3), min_size=2, max_size=4),
    session=st.text(),
)
def test_doors_agree_whose_a_session_is(sizes: list[int], session: str) -> None:
    nodes = [[f"r{node}{number}" for number in range(size)] for node, size in enumerate(sizes)]
    rosters = [routed("consistent_hash", **dict.fromkeys(names, 0)) for names in nodes]
    everybody = routed("consistent_hash", **dict.fromkeys(chain(*nodes), 0))
    wanted = everybody.choose("flights", session)
    for own, roster in enumerate(rosters):
        for other, neighbour in enumerate(rosters):
            if other != own:
                roster.meet(str(other), neighbour.crowds)
        node = roster.choose_far("flights", session)
        chooses = roster if node is None else rosters[int(node)]
        assert chooses.choose("flights", session) == wanted


def test_connections_to_other_nodes_are_counted_before_they_are_told() -> None:
    found = routed("least_connections", a=2)
    far = routed("least_connections", b=0, c=0)
    found.meet("n", far.crowds)
    for _ in range(4):
        assert found.choose_far("flights") == "n"
        found.give_far("flights", "n")
    nodes = []
    for _ in range(6):
        nodes.append(node := found.choose_far("flights"))
        found.give("a") if node is None else found.give_far("flights", node)
    assert nodes.count("n") == 4


def test_nodes_are_dealt_by_the_weights_of_their_replicas() -> None:
    found, far = (routed("weighted_round_robin", **each) for each in ({"a": 0}, {"b": 0, "c": 0}))
    found.describe("a", {"rows_per_s": 2000.0})
    for replica in ("b", "c"):
        far.describe(replica, {"rows_per_s": 1000.0})
    found.meet("n", far.crowds)
    assert [found.choose_far("flights") for _ in range(8)].count("n") == 4


def test_a_node_of_an_earlier_version_is_sent_to_when_there_is_less_room_here() -> None:
    found = routed("round_robin", a=4)
    found.meet("n", crowd(1, 0))
    assert found.choose_far("flights") == "n"
    found.meet("n", crowd(1, 5))
    assert found.choose_far("flights") is None


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


def crowd(replicas: int, connections: int) -> dict[str, Crowd]:
    return {"flights": Crowd(replicas=replicas, connections=connections)}


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
        found.meet(node, crowds)
    assert found.choose_far("flights") == wanted


@given(st.integers(1, 4), st.lists(st.integers(1, 4), max_size=3), st.integers(0, 120))
def test_connections_are_as_even_over_nodes_as_a_replica_tolerates(
    num_near: int, far: list[int], num_clients: int
) -> None:
    found = roster(**{f"r{number}": 0 for number in range(num_near)})
    far_of = {f"n{number}": replicas for number, replicas in enumerate(far)}
    for node, replicas in far_of.items():
        found.meet(node, crowd(replicas, 0))
    given_to = dict.fromkeys(far_of, 0)
    for _ in range(num_clients):
        if (node := found.choose_far("flights")) is not None:
            found.give_far("flights", node)
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
    found.meet("n", crowd(1, 0))
    assert (found.models, found.unserved) == ({"flights"}, frozenset())
    found.part("n")
    assert found.choose_far("flights") is None
    assert found.unserved == {"flights"}
    assert found.owner("/v2/models/flights/infer") == "flights"
    found.forget("flights")
    assert found.models == frozenset()


def test_what_was_sent_while_news_was_on_its_way_is_counted() -> None:
    found = roster()
    found.meet("n", crowd(1, 0))
    found.meet("m", crowd(1, 0))
    found.ask("m")
    for node in ("m", "n"):
        assert found.choose_far("flights") == node
        found.give_far("flights", node)
    found.meet("m", crowd(1, 0))  # as it was before
    assert found.choose_far("flights") == "m"
    found.give_far("flights", "m")
    assert found.choose_far("flights") == "n"


def test_what_came_from_another_node_does_not_go_back() -> None:
    found = roster(a=8)
    found.meet("n", crowd(1, 0))
    assert overloaded(found, n=crowd(1, 0)) == {"a": 4}
    found.receive("n", "flights")
    assert found.overloaded() == {}
    assert found.choose_far("flights") is None
    found.meet("third", crowd(1, 0))
    assert overloaded(found, third=crowd(1, 0)) == {"a": 4}
    found.part("third")
    found.meet("n", crowd(1, 0), relayed=())  # all of them have ended
    assert overloaded(found, n=crowd(1, 0)) == {"a": 4}


def overloaded(found: Roster, **news: dict[str, Crowd]) -> dict[str, int]:
    """Who has too many, once that was found and asked about."""
    found.overloaded()
    for node, crowds in news.items():
        found.ask(node)
        found.meet(node, crowds)
    return found.overloaded()


def test_no_replica_gives_back_on_news_from_before_it_had_too_many() -> None:
    # Seen once: the door of a third node had sent two here and two there, of which this one did
    # not know yet. It sent one over, and three to one they stayed.
    found = roster(a=2)
    found.ask("n")
    found.meet("n", crowd(1, 0))
    found.ask("n")
    assert found.overloaded() == {}
    found.meet("n", crowd(1, 0))  # asked for before
    assert found.overloaded() == {}
    found.ask("n")
    found.meet("n", crowd(1, 2))
    assert found.overloaded() == {}
    assert overloaded(found, n=crowd(1, 0)) == {}  # it had enough room just now
    assert overloaded(found, n=crowd(1, 0)) == {"a": 1}
