from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

from raymlops.cluster.process import SessionLeader

# A leader with a child in its session and one that left it; it prints their pids.
FAMILY = """
import subprocess, sys
sleep = ["sleep", "60"]
kin = subprocess.Popen(sleep)
runaway = subprocess.Popen(sleep, start_new_session=True)
print(kin.pid, runaway.pid, flush=True)
sys.stdin.read()
"""
# The same, deaf to SIGTERM.
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + FAMILY


class Family:
    def __init__(self, program: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.popen.stdout is not None
        self.children = [psutil.Process(int(p)) for p in self.popen.stdout.readline().split()]
        self.leader = SessionLeader.of(self.popen.pid)

    def survivors(self) -> list[psutil.Process]:
        return [child for child in self.children if child.is_running()]


@pytest.fixture
def family(request: pytest.FixtureRequest) -> Iterator[Family]:
    made = Family(getattr(request, "param", FAMILY))
    yield made
    for child in made.survivors():
        child.kill()
    made.popen.kill()
    made.popen.communicate()


def test_the_end_reaches_children_that_left_the_session(family: Family) -> None:
    family.leader.end(grace_s=0.5)
    assert family.leader.process() is None
    assert family.survivors() == []


@pytest.mark.parametrize("family", [DEAF], indirect=True)
def test_a_leader_deaf_to_sigterm_is_killed(family: Family) -> None:
    family.leader.end(grace_s=0.2)
    assert family.leader.process() is None
    assert family.survivors() == []


def test_what_a_crashed_leader_left_in_its_session_is_still_ended(family: Family) -> None:
    family.popen.kill()
    family.popen.wait()
    kin, runaway = family.children
    assert family.leader.members() == {kin}
    family.leader.end(grace_s=0.2)
    assert family.survivors() == [runaway]


def test_a_later_process_of_the_same_pid_is_not_touched(family: Family) -> None:
    earlier = replace(family.leader, started_s=family.leader.started_s - 60)
    assert earlier.process() is None
    earlier.end(grace_s=0.2)
    assert len(family.survivors()) == 2


def test_a_record_from_before_the_reboot_names_nobody(family: Family) -> None:
    family.popen.kill()
    family.popen.wait()
    assert replace(family.leader, started_s=psutil.boot_time() - 60).members() == set()
