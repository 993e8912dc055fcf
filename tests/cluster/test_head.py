from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from raymlops.cluster import ClusterRecord, ClusterSettings, connect, head
from raymlops.cluster.address import free_port
from raymlops.cluster.head import find_head
from raymlops.errors import ClusterError


def test_nobody_at_the_address_is_said_at_once() -> None:
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    with pytest.raises(ClusterError, match=rf"nothing answers at {address} .*`raymlops up`"):
        find_head(address)


def test_a_server_that_is_no_head_is_told_from_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_hang_up_on_two, args=(server,)).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ClusterError, match=r"is no Ray head .*not the dashboard's"):
            find_head(address)


def _hang_up_on_two(server: socket.socket) -> None:
    for _ in range(2):
        server.accept()[0].close()


@pytest.mark.cluster
def test_a_head_tells_its_version_dashboard_and_nodes(cluster: ClusterRecord) -> None:
    found = find_head(cluster.address)
    assert found.reachable_dashboard() == cluster.dashboard_url
    (node,) = found.nodes()
    assert (node.host, node.alive, node.total["CPU"]) == ("127.0.0.1", True, 2.0)


@pytest.mark.cluster
def test_a_wrong_token_is_named(cluster: ClusterRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    with pytest.raises(ClusterError, match="refuses the token in RAY_AUTH_TOKEN or"):
        find_head(cluster.address)


@pytest.mark.cluster
def test_a_missing_token_is_named(cluster: ClusterRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nonexistent/token")
    with pytest.raises(ClusterError, match="asks for a token and there is none"):
        find_head(cluster.address)


@pytest.mark.cluster
def test_another_version_of_ray_is_named(
    cluster: ClusterRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "version", lambda _: "2.59.0")
    with pytest.raises(ClusterError, match=r"runs Ray 2\.\d+\.\d+, this process 2\.59\.0"):
        find_head(cluster.address)


@pytest.mark.cluster
def test_connecting_with_a_wrong_token_fails_with_the_reason(
    cluster: ClusterRecord, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    settings = ClusterSettings(address=cluster.address)
    with (
        pytest.raises(ClusterError, match="refuses the token"),
        connect(settings, home=tmp_path),
    ):
        pass
