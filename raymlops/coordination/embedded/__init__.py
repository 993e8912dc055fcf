"""Coordination for the processes of one Linux machine, with no server: the kernel is the judge."""

from __future__ import annotations

from pathlib import Path

from raymlops.coordination.embedded.key_value import EmbeddedKeyValue
from raymlops.coordination.embedded.lock import EmbeddedLock

__all__ = ["EmbeddedBackend"]


class EmbeddedBackend:
    """Locks and keys as files in `folder`, on a local disk that its processes share.

    What a process holds is a file that it keeps open, which the kernel closes however it dies. A
    stopped process keeps what it holds.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def lock(self, path: str, *, name: str, owner: str) -> EmbeddedLock:
        return EmbeddedLock(self._folder / path, name=name, owner=owner)

    def key_value(self, path: str) -> EmbeddedKeyValue:
        return EmbeddedKeyValue(self._folder / path)

    def close(self) -> None:
        """There is no session to end; leases end with their blocks."""
