"""One leader among many candidates, and observers who know which."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import orjson

from raymlops.coordination.base import Entry, Holder, KeyValue, Lease, Lock
from raymlops.coordination.watch import Watch
from raymlops.errors import StaleLeaseError

T = TypeVar("T")


class Election:
    """Candidates lead in the order they came, each until it resigns or dies.

    election = coordinator.election("operator", candidate="node-1")
    with election.lead() as lease:
        while not lease.wait_lost(1.0):
            work(token=lease.token)
    """

    def __init__(self, name: str, *, lock: Lock, records: KeyValue) -> None:
        self._name = name
        self._lock = lock
        self._records = records

    @contextlib.contextmanager
    def lead(self, *, timeout_s: float | None = None) -> Iterator[Lease]:
        """Leads for the length of the block.

        Raises:
            CoordinationError: another led for all of `timeout_s`; says who.
        """
        with self._lock.hold(timeout_s=timeout_s) as lease:
            leader = self._lock.holder()
            # Else the session went while we asked, and whoever leads now announces itself.
            if leader is not None and leader.token == lease.token:
                self._announce(leader)
            yield lease

    def run(self, act: Callable[[Lease], T], *, timeout_s: float | None = None) -> T:
        """What `act` returns, called once this candidate leads."""
        with self.lead(timeout_s=timeout_s) as lease:
            return act(lease)

    def leader(self) -> Holder | None:
        """Who leads now."""
        return self._lock.holder()

    @contextlib.contextmanager
    def follow(self) -> Iterator[Watch[Holder | None]]:
        """The latest elected leader, then each later one; None before the first election.

        A leader that died stays the latest until the next is elected; `leader` knows better.
        """
        with self._records.watch(self._name) as changes:
            yield changes.map(_decode)

    def _announce(self, leader: Holder) -> None:
        value = orjson.dumps({"owner": leader.owner, "token": leader.token})
        while True:
            entry = self._records.get(self._name)
            latest = _decode(entry)
            if latest is not None and latest.token > leader.token:
                raise StaleLeaseError(
                    f"{leader.owner} was elected under token {leader.token}, "
                    f"but {latest.owner} leads '{self._name}' under token {latest.token}"
                )
            version = entry.version if entry else 0
            if self._records.compare_and_set(self._name, value, version=version):
                return


def _decode(entry: Entry | None) -> Holder | None:
    return Holder(**orjson.loads(entry.value)) if entry else None
