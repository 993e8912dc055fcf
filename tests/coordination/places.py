"""Where the contract is tested: what each backend needs to be reached, also by other processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from raymlops.config import Secret
from raymlops.coordination import CoordinationSettings, Coordinator, connect_coordinator


@dataclass(frozen=True)
class Place:
    """`hosts` of a ZooKeeper and a root of its own there; None is the embedded backend."""

    folder: Path
    hosts: str | None = None
    session_timeout_s: float = 3.0

    @property
    def settings(self) -> CoordinationSettings:
        if self.hosts is None:
            return CoordinationSettings()
        return CoordinationSettings(
            url=f"zookeeper://{self.hosts}/{self.folder.name}",
            user="raymlops",
            password=Secret("correct horse"),
            session_timeout_s=self.session_timeout_s,
        )

    def connect(self) -> Coordinator:
        return connect_coordinator(self.settings, self.folder)

    def queue(self, path: str) -> list[str]:
        """What holders and waiters of a lock have left behind, seen without our code."""
        if self.hosts is None:
            folder = self.folder / path
            names = [each.name for each in folder.iterdir()] if folder.is_dir() else []
            return [name for name in names if name != "numbers"]
        with self.client() as client:
            try:
                return list(client.get_children(f"/{self.folder.name}/{path}"))
            except NoNodeError:
                return []

    @contextlib.contextmanager
    def client(self) -> Iterator[KazooClient]:
        """A plain kazoo client with the same rights."""
        client = KazooClient(self.hosts, auth_data=[("digest", "raymlops:correct horse")])
        client.start()
        try:
            yield client
        finally:
            client.stop()
            client.close()
