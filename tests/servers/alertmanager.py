"""Alertmanager, from the Debian package prometheus-alertmanager."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raymlops.cluster.address import free_port
from tests.servers.process import program, running

_HOST = "127.0.0.1"
_CONFIG = "{route: {receiver: nobody}, receivers: [{name: nobody}]}"


@contextlib.contextmanager
def alertmanager(folder: Path) -> Iterator[str]:
    """The URL of an Alertmanager that tells nobody; its data lie in `folder`."""
    url = f"http://{_HOST}:{free_port(_HOST)}"
    config = folder / "alertmanager.yml"
    config.write_text(_CONFIG)
    command = [
        program("prometheus-alertmanager", package="prometheus-alertmanager"),
        f"--config.file={config}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
    ]

    def is_up() -> bool:
        try:
            urllib.request.urlopen(f"{url}/-/ready", timeout=1).close()
        except OSError:
            return False
        return True

    with running(command, folder=folder, is_up=is_up):
        yield url


def active_alerts(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/api/v2/alerts?active=true", timeout=10) as reply:
        found: list[dict[str, Any]] = json.load(reply)
    return found
