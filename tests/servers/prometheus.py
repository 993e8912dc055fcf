"""Prometheus and its tools, from the Debian package prometheus."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raymlops.cluster.address import free_port
from tests.servers.process import program, running

_HOST = "127.0.0.1"


@dataclass(frozen=True)
class Prometheus:
    """A server, asked by its HTTP API."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector of an expression, now."""
        data: list[dict[str, Any]] = self.get(f"query?query={urllib.parse.quote(expression)}")[
            "result"
        ]
        return data

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}", timeout=10) as reply:
            answer = json.load(reply)
        assert answer["status"] == "success", answer
        return answer["data"]


@contextlib.contextmanager
def prometheus(config: Path, folder: Path) -> Iterator[Prometheus]:
    """A server with a configuration file; its data lie in `folder`."""
    server = Prometheus(f"http://{_HOST}:{free_port(_HOST)}")
    command = [
        program("prometheus", package="prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={server.url.removeprefix('http://')}",
    ]

    def is_up() -> bool:
        try:
            urllib.request.urlopen(f"{server.url}/-/ready", timeout=1).close()
        except OSError:
            return False
        return True

    with running(command, folder=folder, is_up=is_up):
        yield server


def promtool(*arguments: str | Path, stdin: str = "") -> str:
    """What `promtool` printed; a complaint of it fails the test."""
    command = [program("promtool", package="prometheus"), *map(str, arguments)]
    done = subprocess.run(command, input=stdin, text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
