"""What users hold: everything that a backend's locks and keys can be made into."""

from __future__ import annotations

import os
import socket
from contextlib import AbstractContextManager
from types import TracebackType

from raymlops.coordination.base import Backend, KeyValue, Lease, Lock
from raymlops.coordination.names import segment


class Coordinator:
    """Locks and keys of one backend, by name.

    with coordinator.hold("flights", timeout_s=5) as lease:
        register.write(value, token=lease.token)
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def lock(self, name: str) -> Lock:
        return self._backend.lock(f"locks/{segment(name)}", name=name, owner=_this_process())

    def hold(self, name: str, *, timeout_s: float | None = None) -> AbstractContextManager[Lease]:
        """`lock(name).hold`."""
        return self.lock(name).hold(timeout_s=timeout_s)

    def key_value(self, namespace: str) -> KeyValue:
        return self._backend.key_value(f"keys/{segment(namespace)}")

    def close(self) -> None:
        """Gives up what is held and ends the session."""
        self._backend.close()

    def __enter__(self) -> Coordinator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
