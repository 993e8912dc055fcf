"""What only ZooKeeper has: connections that break, sessions that end, nodes with owners."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError

from raymlops.cluster.address import free_port
from raymlops.config import Secret
from raymlops.coordination import CoordinationSettings, Coordinator, connect_coordinator
from raymlops.coordination.zookeeper.order import before, oldest
from raymlops.errors import CoordinationError
from tests.coordination.places import Place
from tests.coordination.processes import until
from tests.servers.faulty_line import CREATE, MULTI, FaultyLine, faulty_line
from tests.servers.zookeeper import Ensemble


@pytest.fixture
def line(one_server: Ensemble) -> Iterator[FaultyLine]:
    with faulty_line(one_server.servers[0].port) as line:
        yield line


@pytest.fixture
def behind_line(zookeeper_place: Place, line: FaultyLine) -> Iterator[Coordinator]:
    """Its session outlives every fault of these tests: what is cleaned up, is not by expiry."""
    place = replace(zookeeper_place, hosts=f"127.0.0.1:{line.port}", session_timeout_s=20)
    with place.connect() as coordinator:
        yield coordinator


def is_connected(coordinator: Coordinator) -> bool:
    return bool(coordinator._backend._session.client.connected)  # type: ignore[attr-defined]


def test_a_create_whose_answer_is_lost_leaves_one_node(
    behind_line: Coordinator, line: FaultyLine, zookeeper_place: Place
) -> None:
    """A second node would wait for the first, its own, until the session ends."""
    with behind_line.hold("job"):
        pass
    line.lose_answer_to(CREATE)
    with behind_line.hold("job", timeout_s=60) as lease:
        assert line.num_lost == 1
        lease.check()
        assert len(zookeeper_place.queue("locks/job")) == 1
        holder = behind_line.lock("job").holder()
        assert holder is not None
        assert holder.token == lease.token
    assert zookeeper_place.queue("locks/job") == []


def tell_late(coordinator: Coordinator, by_s: float) -> None:
    """Lets its session hear of a lost connection that much after its requests were interrupted."""
    session = coordinator._backend._session  # type: ignore[attr-defined]

    def hear(state: str) -> None:
        time.sleep(by_s)
        session._on_state(state)

    session.client.remove_listener(session._on_state)
    session.client.add_listener(hear)


@pytest.mark.parametrize("told_late_s", [0.0, 1.0])
def test_who_gives_up_without_having_heard_of_its_node_leaves_none(
    behind_line: Coordinator, line: FaultyLine, zookeeper_place: Place, told_late_s: float
) -> None:
    tell_late(behind_line, by_s=told_late_s)
    with behind_line.hold("job"):
        pass
    line.lose_answer_to(CREATE, then_down=True)
    with (
        pytest.raises(CoordinationError, match="there is no connection to ZooKeeper"),
        behind_line.hold("job", timeout_s=0.3),
    ):
        pytest.fail("it cannot know")
    assert len(zookeeper_place.queue("locks/job")) == 1
    line.up()
    until(lambda: zookeeper_place.queue("locks/job") == [])


def test_a_release_whose_answer_is_lost_is_done(
    behind_line: Coordinator, line: FaultyLine, zookeeper_place: Place
) -> None:
    with behind_line.hold("job"):
        line.lose_answer_to(MULTI)
    assert line.num_lost == 1
    assert zookeeper_place.queue("locks/job") == []


def test_a_release_while_the_server_is_away_is_done_when_it_is_back(
    behind_line: Coordinator, line: FaultyLine, zookeeper_place: Place
) -> None:
    with zookeeper_place.connect() as other:
        with behind_line.hold("job"):
            line.down()
            until(lambda: not is_connected(behind_line))
            line.up()
        with other.hold("job", timeout_s=60):
            assert len(zookeeper_place.queue("locks/job")) == 1


def test_a_lease_outlives_a_broken_connection(behind_line: Coordinator, line: FaultyLine) -> None:
    with behind_line.hold("job") as lease:
        line.down()
        until(lambda: not is_connected(behind_line))
        with pytest.raises(CoordinationError, match="there is no connection to ZooKeeper"):
            lease.check()
        line.up()
        until(lambda: is_connected(behind_line))
        lease.check()
        assert not lease.wait_lost(0)


def test_an_outage_is_told_once_and_its_end(
    behind_line: Coordinator, line: FaultyLine, caplog: pytest.LogCaptureFixture
) -> None:
    """Each attempt to connect was, once a second."""
    line.down()
    until(lambda: line.num_refused >= 3)
    line.up()
    with behind_line.hold("job", timeout_s=60):
        pass
    where = f"ZooKeeper at 127.0.0.1:{line.port}"
    assert [record.getMessage() for record in caplog.records] == [
        f"{where} is away, and is asked again and again",
        f"{where} is back",
    ]


def test_a_lease_ends_with_its_session_and_the_next_session_goes_on(
    zookeeper_place: Place, line: FaultyLine
) -> None:
    place = replace(zookeeper_place, hosts=f"127.0.0.1:{line.port}", session_timeout_s=2)
    with place.connect() as coordinator:
        with coordinator.hold("job") as lease:
            line.down()
            until(lambda: zookeeper_place.queue("locks/job") == [])
            line.up()
            assert lease.wait_lost(10)
            with pytest.raises(CoordinationError, match="no longer held"):
                lease.check()
        with coordinator.hold("job", timeout_s=60) as later:
            assert later.token > lease.token
            later.check()


def test_an_addition_whose_answer_is_lost_counts_once(
    behind_line: Coordinator, line: FaultyLine
) -> None:
    counter = behind_line.counter("steps")
    counter.add()
    for total in range(2, 12):
        line.lose_answer_to(MULTI)
        assert counter.add() == total
    assert line.num_lost == 10
    assert counter.value() == 11


def test_a_write_whose_answer_is_lost_has_the_version_it_was_given(
    behind_line: Coordinator, line: FaultyLine
) -> None:
    values = behind_line.key_value("values")
    values.set("a", b"0")
    line.lose_answer_to(MULTI)
    written = values.set("a", b"1")
    assert values.get("a") == written
    line.lose_answer_to(MULTI)
    assert values.compare_and_set("a", b"2", version=written.version) == values.get("a")
    line.lose_answer_to(MULTI)
    assert values.delete("a")
    assert line.num_lost == 3


def test_a_watch_sees_what_happened_while_the_connection_was_broken(
    behind_line: Coordinator, line: FaultyLine, zookeeper_place: Place
) -> None:
    with (
        behind_line.key_value("values").watch("a") as changes,
        zookeeper_place.connect() as other,
    ):
        assert changes.next(timeout_s=60) is None
        line.down()
        written = other.key_value("values").set("a", b"1")
        line.up()
        assert changes.next(timeout_s=60) == written


def test_tokens_rise_when_every_node_of_the_lock_was_removed(zookeeper_place: Place) -> None:
    with zookeeper_place.connect() as coordinator, zookeeper_place.client() as client:
        with coordinator.hold("job") as lease:
            pass
        client.delete(f"/{zookeeper_place.folder.name}/locks", recursive=True)
        with coordinator.hold("job", timeout_s=60) as later:
            assert later.token > lease.token


def test_only_its_user_reaches_the_nodes(zookeeper_place: Place, tmp_path: Path) -> None:
    with zookeeper_place.connect() as coordinator:
        coordinator.key_value("values").set("a", b"1")
        stranger = KazooClient(zookeeper_place.hosts)
        stranger.start()
        path = f"/{zookeeper_place.folder.name}/keys/values/a"
        for act in (stranger.get, stranger.delete, stranger.get_children):
            with pytest.raises(NoAuthError):
                act(path)
        stranger.stop()
        stranger.close()
    settings = replace(zookeeper_place.settings, password=Secret("guessed"))
    with connect_coordinator(settings, tmp_path) as guessing:
        for act in (
            lambda: guessing.key_value("values").set("a", b"2"),
            lambda: guessing.hold("job", timeout_s=60).__enter__(),
        ):
            with pytest.raises(CoordinationError, match="belong to another user") as caught:
                act()
            assert "guessed" not in str(caught.value)


def test_the_password_is_never_shown(
    zookeeper_place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    with zookeeper_place.connect() as coordinator, coordinator.hold("job"):
        coordinator.counter("steps").add()
    assert "Sending request" in caplog.text  # the log is as talkative as it can be
    assert "correct horse" not in caplog.text + repr(zookeeper_place.settings)
    assert "passwd" not in caplog.text  # with a session's one others could take it over


def test_no_server_is_an_error_that_says_where(tmp_path: Path) -> None:
    host = f"127.0.0.1:{free_port('127.0.0.1')}"
    settings = CoordinationSettings(url=f"zookeeper://{host}/raymlops", session_timeout_s=0.2)
    with pytest.raises(CoordinationError, match=f"no ZooKeeper answered at {host} within 0.4 s"):
        connect_coordinator(settings, tmp_path)


def test_a_closed_coordinator_says_so(zookeeper_place: Place) -> None:
    coordinator = zookeeper_place.connect()
    coordinator.close()
    with pytest.raises(CoordinationError, match="closed"), coordinator.hold("job", timeout_s=60):
        pytest.fail("held without a session")


def test_nodes_stay_in_order_when_their_numbers_run_over() -> None:
    old, mine, new = "b~2147483647", "a~-2147483648", "c~-2147483647"
    assert before(mine, [new, mine, old]) == [old]
    assert before(new, [mine, old, new]) == [old, mine]
    assert oldest([new, mine, old]) == old
    assert oldest([]) is None
    assert before("a~0000000003", ["z~0000000010", "y~0000000001", "x~0000000002"]) == [
        "y~0000000001",
        "x~0000000002",
    ]
