"""The contract of `Lock`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from raymlops.coordination import Coordinator
from raymlops.errors import CoordinationError
from tests.coordination.places import Place
from tests.coordination.processes import Other, append_tokens, hold, until

Start = Callable[..., Other]


def waiter(start: Start, place: Place, name: str, *, position: int) -> Other:
    """A process that waits as number `position` of the queue, the holder being number 1."""
    other = start(hold, place, name)
    assert other.hear() == "waiting"
    until(lambda: len(place.queue(f"locks/{name}")) == position)
    return other


def test_tokens_rise_from_holder_to_holder(coordinator: Coordinator) -> None:
    tokens = []
    for _ in range(5):
        with coordinator.hold("job", timeout_s=0) as lease:
            tokens.append(lease.token)
    assert sorted(set(tokens)) == tokens


def test_a_held_lock_is_refused_with_its_holder(coordinator: Coordinator, place: Place) -> None:
    other = Other(hold, place, "job")
    assert other.hear() == "waiting"
    token = other.hear()
    holder = coordinator.lock("job").holder()
    assert holder is not None
    assert (holder.token, holder.owner.split(" on ")[0]) == (token, f"process {other.pid}")
    for timeout_s in (0, 0.1):
        with (
            pytest.raises(CoordinationError, match=f"'job' is held by process {other.pid} on"),
            coordinator.hold("job", timeout_s=timeout_s),
        ):
            pytest.fail("two hold the lock")
    assert len(place.queue("locks/job")) == 1
    other.end()


def test_nobody_holds_a_lock_that_was_never_taken(coordinator: Coordinator) -> None:
    assert coordinator.lock("job").holder() is None


def test_a_lock_is_released_when_the_block_raises(coordinator: Coordinator) -> None:
    with pytest.raises(ZeroDivisionError), coordinator.hold("job", timeout_s=0):
        _ = 1 / 0
    with coordinator.hold("job", timeout_s=0):
        pass
    assert coordinator.lock("job").holder() is None


@pytest.mark.parametrize("other", ["job2", "JOB", "job/x", "../job", "..", ".", "job ", "Ä", "%6A"])
def test_names_are_locks_of_their_own(coordinator: Coordinator, other: str) -> None:
    with coordinator.hold("job", timeout_s=0), coordinator.hold(other, timeout_s=0) as lease:
        assert lease.name == other


@pytest.mark.parametrize("name", ["", "x" * 201, "ä" * 40])
def test_an_impossible_name_is_refused(coordinator: Coordinator, name: str) -> None:
    with pytest.raises(ValueError, match="it must take 1 to 200"):
        coordinator.lock(name)


def test_a_negative_timeout_is_refused(coordinator: Coordinator, place: Place) -> None:
    with pytest.raises(ValueError, match="timeout_s is -1"), coordinator.hold("job", timeout_s=-1):
        pass
    assert place.queue("locks/job") == []


def test_a_lease_knows_that_its_block_has_ended(coordinator: Coordinator) -> None:
    with coordinator.hold("job", timeout_s=0) as lease:
        lease.check()
        assert not lease.wait_lost(0)
    assert lease.wait_lost(0)
    with pytest.raises(CoordinationError, match=f"no longer held under token {lease.token}"):
        lease.check()


def test_threads_of_one_process_exclude_each_other(coordinator: Coordinator) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(10):
            with coordinator.hold("job", timeout_s=120):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_one_process_at_a_time_in_the_order_of_their_tokens(
    place: Place, start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "lines"
    path.write_text("")
    others = [start(append_tokens, place, "job", path, 25) for _ in range(4)]
    assert [other.hear() for other in others] == ["done"] * 4
    lines = [tuple(map(int, line.split())) for line in path.read_text().splitlines()]
    assert [seen for _, seen in lines] == list(range(100))  # else two read before either wrote
    tokens = [token for token, _ in lines]
    assert sorted(set(tokens)) == tokens


def test_waiters_are_served_in_the_order_they_came(place: Place, start: Start) -> None:
    others = [waiter(start, place, "job", position=number) for number in range(1, 5)]
    tokens = []
    for other in others:
        tokens.append(other.hear())
        other.tell()
        assert other.hear() == "released"
    assert sorted(tokens) == tokens
    assert place.queue("locks/job") == []


def test_a_killed_holder_hands_over(place: Place, start: Start) -> None:
    first = waiter(start, place, "job", position=1)
    second = waiter(start, place, "job", position=2)
    token = first.hear()
    first.process.kill()
    assert second.hear() > token
    assert len(place.queue("locks/job")) == 1


def test_a_killed_waiter_is_passed_over(place: Place, start: Start) -> None:
    first, second, third = [waiter(start, place, "job", position=at) for at in (1, 2, 3)]
    first.hear()
    second.process.kill()
    second.process.join()
    # Its death must not let the third in while the first holds: that is watching only one's
    # neighbour and taking its end for one's turn.
    assert not third.pipe.poll(2.0)
    first.tell()
    assert first.hear() == "released"
    third.hear()
    assert len(place.queue("locks/job")) == 1


def test_a_waiter_that_gives_up_leaves_nothing(place: Place, start: Start) -> None:
    first = waiter(start, place, "job", position=1)
    first.hear()
    with place.connect() as coordinator:
        for _ in range(3):
            with (
                pytest.raises(CoordinationError, match=r"waited 0\.05 s"),
                coordinator.hold("job", timeout_s=0.05),
            ):
                pytest.fail("two hold the lock")
            assert len(place.queue("locks/job")) == 1


def test_a_cancelled_waiter_leaves_nothing(place: Place, start: Start) -> None:
    first = waiter(start, place, "job", position=1)
    second = waiter(start, place, "job", position=2)
    first.hear()
    os.kill(second.pid, signal.SIGINT)
    assert second.hear() == "cancelled"
    until(lambda: len(place.queue("locks/job")) == 1)


def test_closing_gives_up_what_is_held(zookeeper_place: Place) -> None:
    with (
        zookeeper_place.connect() as coordinator,
        zookeeper_place.connect() as closing,
        closing.hold("job", timeout_s=0) as lease,
    ):
        closing.close()
        assert lease.wait_lost(5)
        with coordinator.hold("job", timeout_s=60) as next_lease:
            assert next_lease.token > lease.token
