from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from raymlops.cluster.background import NodeRecord
from raymlops.cluster.machines import Machine, Machines
from raymlops.cluster.process import SessionLeader
from raymlops.cluster.ssh import Login
from raymlops.errors import ClusterError

RECORD = NodeRecord(
    leader=SessionLeader(pid=7, boot="b", started=15),
    address="a:6379",
    dashboard_url=None,
    scratch="/tmp/raymlops-x",
    log="/home/x/node.log",
)


@dataclass(frozen=True, kw_only=True)
class FakeLogin(Login):
    """Machines in memory: `up` run a node, `broken` cannot start one."""

    user: str = "ops"
    key: str | None = None
    proxy: str | None = None
    known_hosts: Path = Path("/k")
    up: set[str] = field(default_factory=set)
    broken: frozenset[str] = frozenset()
    lines: list[tuple[str, str]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    def run(self, host: str, line: str, *, stdin: str = "", timeout_s: float) -> str:
        if line == "node show":
            if host not in self.up:
                raise ClusterError("nothing runs here")
            return f"welcome to {host}\n{RECORD.to_json()}"
        if stdin:
            self.tokens.append(stdin)
            return ""
        line = line.removeprefix("export RAY_HEAD_IP=a; ")
        self.lines.append((host, line))
        if line == "node start" and host in self.broken:
            raise ClusterError(f"{host}: no Ray")
        if line == "node start":
            self.up.add(host)
        return ""


def machine(host: str) -> Machine:
    return Machine(host=host, setup=("install",), start=("node start",), node="node")


def machines(login: Login) -> Machines:
    return Machines(head=machine("a"), workers=(machine("b"), machine("c")), login=login)


def test_a_machine_gets_the_token_its_setup_and_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    login = FakeLogin()
    assert machines(login).start_head() == RECORD
    assert login.lines == [("a", "install"), ("a", "node start")]
    assert login.tokens == ["secret"]


def test_a_machine_that_runs_its_node_is_left_alone() -> None:
    login = FakeLogin(up={"a", "b"})
    machines(login).start_head()
    machines(login).start_workers()
    assert login.lines == [("c", "install"), ("c", "node start")]


def test_a_worker_that_fails_is_named_and_the_others_start() -> None:
    login = FakeLogin(broken=frozenset("b"))
    with pytest.raises(ClusterError, match=r"^b: no Ray$"):
        machines(login).start_workers()
    assert login.up == {"c"}


def test_every_machine_is_told_to_stop() -> None:
    login = FakeLogin()
    machines(login).stop()
    assert sorted(login.lines) == [("a", "node stop"), ("b", "node stop"), ("c", "node stop")]
