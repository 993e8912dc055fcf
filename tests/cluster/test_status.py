from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from raymlops.cluster.status import _applications
from raymlops.errors import ClusterError


@contextmanager
def no_http() -> Iterator[str]:
    """The address of a program that answers one client, and speaks no HTTP."""

    def greet() -> None:
        server.settimeout(10.0)
        client, _ = server.accept()
        with client:
            client.recv(1000)
            client.sendall(b"SSH-2.0-OpenSSH\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as threads:
        threads.submit(greet)
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_dashboard_whose_port_another_has_is_told_as_ours() -> None:
    with no_http() as address:
        head = SimpleNamespace(token=None, reachable_dashboard=lambda: f"http://{address}")
        with pytest.raises(ClusterError, match=f"the dashboard at http://{address}/.*SSH-2.0"):
            _applications(head)  # type: ignore[arg-type]
