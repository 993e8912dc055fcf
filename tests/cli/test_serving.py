from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from raymlops.operate import Workspace
from tests.cli.commands import run

# As a door tells it that two replicas stand behind, one of which has not told of itself yet.
STANDING = {
    "addresses": ["127.0.0.1:8000"],
    "models": ["cancer", "flights"],
    "waiting": 0,
    "lost": {},
    "relays": 1234,
    "problem": "TLS with certificate a.pem: [SSL] PEM lib",
    "replicas": [
        {
            "replica": "cancer-5f",
            "models": ["cancer"],
            "connections": 3,
            "leaving": False,
            "versions": ["1.0.0"],
            "requests": 7,
            "refused": 2,
            "failed": 1,
            "mean_ms": 2.345,
        },
        {"replica": "flights-9a", "models": ["flights"], "connections": 0, "leaving": False},
    ],
}


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "connect", lambda _: nullcontext())


@pytest.mark.usefixtures("without_ray")
def test_what_serves_is_told_to_people(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr("raymlops.serve.standing", lambda: [STANDING])
    lines = [line.split() for line in run("serve", "status", "--home", home).splitlines()]
    assert lines == [
        ["listens", "127.0.0.1:8000"],
        ["models", "cancer,", "flights"],
        ["passed", "on", "to", "other", "nodes", "1,234"],
        ["problem", "TLS", "with", "certificate", "a.pem:", "[SSL]", "PEM", "lib"],
        ["replica", "versions", "connections", "requests", "refused", "failed", "mean_ms"],
        ["cancer-5f", "1.0.0", "3", "7", "2", "1", "2.35"],
        ["flights-9a", "0"],
    ]


@pytest.mark.usefixtures("without_ray")
def test_where_nothing_serves_the_way_to_another_cluster_is_told(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """Who forgot to join the cluster asked a Ray of the command's own, and read nothing at all."""
    monkeypatch.setattr("raymlops.serve.standing", list)
    told = " ".join(run("serve", "status", "--home", home).split())
    assert told.startswith("serves nothing on this cluster; for another one set RAYMLOPS__CLUSTER_")
