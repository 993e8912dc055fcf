from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from raymlops.cluster import birth
from raymlops.cluster.process import SessionLeader
from raymlops.errors import ClusterError

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


def test_a_process_that_got_the_pid_a_tick_later_is_not_touched(family: Family) -> None:
    earlier = replace(family.leader, started=family.leader.started - 1)
    assert earlier.process() is None
    earlier.end(grace_s=0.2)
    assert len(family.survivors()) == 2


def test_a_record_from_before_the_reboot_names_nobody(family: Family) -> None:
    earlier = replace(family.leader, boot="earlier")
    assert earlier.process() is None
    family.popen.kill()
    family.popen.wait()
    assert earlier.members() == set()


@pytest.mark.parametrize("step_s", [-3600.0, 60.0])
def test_a_process_is_found_and_ended_after_the_clock_was_set(
    family: Family, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    # Every date that psutil counts from the boot moved by the step: `down` took the cluster that
    # ran for a stranger, left it alone and told of success.
    step_the_clock(monkeypatch, step_s)
    assert family.leader.process() == psutil.Process(family.popen.pid)
    family.leader.end(grace_s=0.5)
    assert family.leader.process() is None
    assert family.survivors() == []


def test_a_name_does_not_hide_when_its_process_began(tmp_path: Path) -> None:
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as odd:
        try:
            now = birth.start_of(odd.pid)
            assert birth.start_of(psutil.Process().pid) < now < 100 * time.monotonic() + 1
        finally:
            odd.kill()


def test_a_system_whose_boots_have_no_id_tells_starts_by_the_clock(
    family: Family, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(birth, "_BOOT_ID", tmp_path / "missing")
    leader = SessionLeader.of(family.popen.pid)
    assert leader.boot is None
    assert leader.process() == psutil.Process(family.popen.pid)
    assert replace(leader, started=leader.started - 60).process() is None
    assert replace(leader, started=psutil.boot_time() - 60).members() == set()
    leader.end(grace_s=0.5)
    assert family.survivors() == []


def test_a_leader_is_read_as_it_was_written(family: Family) -> None:
    written = asdict(family.leader)
    assert SessionLeader.from_fields(written, source="node.json") == family.leader


def test_a_record_of_an_earlier_version_says_how_to_go_on() -> None:
    with pytest.raises(ClusterError, match=r"`kill 7` ends it; then delete /h/cluster\.json"):
        SessionLeader.from_fields({"pid": 7, "started_s": 1.5}, source="/h/cluster.json")


def step_the_clock(monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    created, booted = psutil.Process.create_time, psutil.boot_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: created(self) + step_s)
    monkeypatch.setattr(psutil, "boot_time", lambda: booted() + step_s)
