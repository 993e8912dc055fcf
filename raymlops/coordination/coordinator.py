"""What users hold: everything that a backend's locks and keys can be made into."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from raymlops.coordination.barrier import Barrier
from raymlops.coordination.base import Backend, KeyValue, Lease, Lock
from raymlops.coordination.counter import Counter
from raymlops.coordination.election import Election
from raymlops.coordination.names import segment


class Coordinator:
    """Locks, elections, keys, barriers and counters of one backend, by name.

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

    def election(self, name: str, *, candidate: str | None = None) -> Election:
        """`candidate` is the name others see when this one leads; None is this process."""
        return Election(
            name,
            lock=self._backend.lock(
                f"elections/{segment(name)}", name=name, owner=candidate or _this_process()
            ),
            records=self._backend.key_value("leaders"),
        )

    def key_value(self, namespace: str) -> KeyValue:
        return self._backend.key_value(f"keys/{segment(namespace)}")

    def barrier(self, name: str, parties: Sequence[str]) -> Barrier:
        """`parties` are the names of all who must enter."""
        return Barrier(
            name,
            parties,
            states=self._backend.key_value("barriers"),
            place=lambda party: self._backend.lock(
                f"parties/{segment(name)}/{segment(party)}", name=party, owner=_this_process()
            ),
        )

    def counter(self, name: str) -> Counter:
        return Counter(name, self._backend.key_value("counters"))

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
