"""An ensemble whose leader is killed, and holders that sleep through their session."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.coordination.places import Place
from tests.coordination.processes import Other, until, work_in_turns, write_while_leading
from tests.endurance import endurance
from tests.servers.zookeeper import zookeeper

Start = Callable[..., Other]


class Register:
    """What a lock protects: one value that accepts no token smaller than the largest it saw."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._largest = 0

    def write(self, token: int) -> bool:
        with self._lock:
            if token < self._largest:
                return False
            self._largest = token
            return True


def test_locks_go_on_when_the_leader_is_killed(tmp_path: Path, start: Start) -> None:
    with zookeeper(num_servers=3) as ensemble:
        place = Place(tmp_path, ensemble.hosts, session_timeout_s=4)
        others = [start(work_in_turns, place, "job") for _ in range(4)]
        holds = [other.hear() for other in others]
        ensemble.leader.process.kill()
        killed_at = time.monotonic()
        for other in others:
            fresh = 0
            while fresh < 3:  # each of the four makes progress again
                holds.append(other.hear())
                fresh += holds[-1][1] > killed_at + 0.1
        for other in others:
            other.end()
    holds.sort(key=lambda hold: hold[1])
    tokens = [token for token, _, _ in holds]
    assert sorted(set(tokens)) == tokens
    given_up = [at for _, _, at in holds]
    taken = [at for _, at, _ in holds]
    assert all(before <= after for before, after in zip(given_up, taken[1:], strict=False))


@pytest.mark.parametrize(("num_lanes", "num_rounds"), [(5, 1), endurance(20, 5)])
def test_no_write_of_a_holder_that_slept_through_its_session_is_accepted(
    tmp_path: Path, start: Start, num_lanes: int, num_rounds: int
) -> None:
    """A round: stopped while it holds and writes; another takes over; then it wakes up."""

    def play(lane: int) -> list[tuple[int, int, bool]]:
        """(token of the sleeper, of who took over, was the sleeper's write accepted) a round."""
        register, name, rounds = Register(), f"job-{lane}", []
        sleeper = sleepers[lane]
        with place.connect() as coordinator:
            for _ in range(num_rounds):
                sleeper.tell("next round")
                token = sleeper.hear()
                assert register.write(token)
                sleeper.tell("accepted")  # it goes on writing at once
                os.kill(sleeper.pid, signal.SIGSTOP)
                with coordinator.hold(name, timeout_s=120) as lease:
                    assert register.write(lease.token)
                    os.kill(sleeper.pid, signal.SIGCONT)
                    late = sleeper.hear()
                    accepted = register.write(late)
                    rounds.append((late, lease.token, accepted))
                sleeper.tell("refused")
        return rounds

    with zookeeper(num_servers=3) as ensemble, ThreadPoolExecutor(num_lanes) as lanes:
        # Shorter sessions would be lost while a busy machine starts all these processes.
        place = Place(tmp_path, ensemble.hosts, session_timeout_s=4)
        sleepers = [start(write_while_leading, place, f"job-{lane}") for lane in range(num_lanes)]
        rounds = [each for lane in lanes.map(play, range(num_lanes)) for each in lane]
        for sleeper in sleepers:
            sleeper.end()
    assert len(rounds) == num_lanes * num_rounds
    assert all(late < taken_over for late, taken_over, _ in rounds)
    assert sum(accepted for _, _, accepted in rounds) == 0


def test_holders_and_waiters_killed_at_any_moment_leave_nothing_behind(
    place: Place, start: Start
) -> None:
    doomed = [start(work_in_turns, place, "job") for _ in range(12)]
    with replace(place, session_timeout_s=10).connect() as coordinator:
        while doomed:
            doomed[-1].hear()  # the others wait, or are on their way in or out
            for other in doomed[-3:]:
                other.process.kill()
            del doomed[-3:]
            with coordinator.hold("job", timeout_s=120):
                pass
    until(lambda: place.queue("locks/job") == [])
