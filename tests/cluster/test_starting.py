"""A start that is cut off leaves a node on record; a program that sleeps stands for Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from raymlops.cluster import background, down, node, status, up
from raymlops.cluster.process import SessionLeader
from raymlops.cluster.starting import StartingNode, end_unanswered, read_answered
from raymlops.errors import ClusterError
from tests.coordination.processes import until

STARTER = """
import signal
import sys
from pathlib import Path
from raymlops.cluster import background, up
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup has processes ignore
background.ray_start_command = lambda *args, **options: ["/bin/sleep", "60"]
up(None, home=Path(sys.argv[1]))
"""


@dataclass(frozen=True, kw_only=True)
class Left:
    """What a killed starter left: a process, and its folder."""

    leader: SessionLeader
    scratch: Path

    @property
    def ended(self) -> bool:
        """Whether nothing of it is there."""
        return self.leader.process() is None and not self.scratch.exists()


@pytest.fixture
def left(tmp_path: Path) -> Iterator[Left]:
    """A node that nobody waits for any more, on record in `cluster.json` and `node.json`."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as spawned:
        leader = SessionLeader.of(spawned.pid)
        for name in ("cluster.json", "node.json"):
            StartingNode(leader=leader, scratch=str(scratch)).write(tmp_path / name)
        yield Left(leader=leader, scratch=scratch)
        spawned.kill()


@pytest.mark.parametrize("cut_off", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_down_ends_the_node_of_an_up_that_was_killed(
    tmp_path: Path, cut_off: signal.Signals
) -> None:
    # The node was on record only once it answered: until then nothing knew what a killed `up`
    # had started, and it ran for ever.
    record = tmp_path / "cluster.json"
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-c", STARTER, str(tmp_path)]
    with subprocess.Popen(command, env=environment) as starter:
        until(record.exists, timeout_s=60.0)
        starter.send_signal(cut_off)
    fields = json.loads(record.read_text())["starting"]
    spawned = Left(leader=SessionLeader(**fields["leader"]), scratch=Path(fields["scratch"]))
    process = spawned.leader.process()
    assert process is not None
    assert process.cmdline() == ["/bin/sleep", "60"]
    assert not status(tmp_path).running
    assert down(tmp_path)
    assert spawned.ended
    assert not record.exists()
    assert not down(tmp_path)


def test_up_ends_what_a_killed_one_left_before_it_starts_another(
    left: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    ended_by_then = []

    def refusing(*_: object, **__: object) -> list[str]:
        ended_by_then.append(left.ended)
        return ["/bin/false"]

    monkeypatch.setattr(background, "ray_start_command", refusing)
    with pytest.raises(ClusterError, match="ended at once"):
        up(None, home=tmp_path)
    assert ended_by_then == [True]
    assert not (tmp_path / "cluster.json").exists()


def test_a_node_that_nobody_waits_for_is_not_shown_and_is_stopped(
    left: Left, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(tmp_path)]
    assert node.main([*home, "show"]) == 1
    assert "no node of raymlops runs here" in capsys.readouterr().err
    assert node.main([*home, "stop"]) == 0
    assert left.ended
    assert not (tmp_path / "node.json").exists()


def test_a_node_starts_where_an_earlier_start_was_cut_off(
    left: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(background, "ray_start_command", lambda *_, **__: ["/bin/false"])
    assert node.main(["--home", str(tmp_path), "start", "--head"]) == 1
    assert left.ended


def test_a_node_that_answered_is_left_alone(tmp_path: Path) -> None:
    record = tmp_path / "node.json"
    record.write_text('{"address": "127.0.0.1:1"}')
    assert not end_unanswered(record)
    assert read_answered(record) == {"address": "127.0.0.1:1"}
    assert not end_unanswered(tmp_path / "missing.json")
