"""Fencing: a write carries the token of the lock it is made under, and a stale one is refused.

A holder that slept through the end of its session does not know that somebody else holds the lock
by now. The database does: each write transaction compares the token with the largest one seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection, insert, select, update

from raymlops.errors import StaleLeaseError
from raymlops.ledger import schema


class Held(Protocol):
    """A lock as its holder knows it, such as a `coordination.Lease`."""

    @property
    def name(self) -> str: ...
    @property
    def token(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Fence:
    """What a write carries of a lease: it can travel, and be compared."""

    name: str
    token: int

    @classmethod
    def of(cls, lease: Held) -> Fence:
        return cls(name=lease.name, token=lease.token)


_carried: ContextVar[tuple[tuple[str, Fence], ...]] = ContextVar("raymlops_fences", default=())


@contextlib.contextmanager
def carrying(url: str, *fences: Fence) -> Iterator[None]:
    """Every write of this thread, or task, to the ledger at `url` carries these fences."""
    before = _carried.get()
    new = [each for fence in fences if (each := (url, fence)) not in before]
    token = _carried.set((*before, *new))
    try:
        yield
    finally:
        _carried.reset(token)


def carried(url: str) -> Sequence[Fence]:
    """The fences that writes to the ledger at `url` carry here."""
    everything = _carried.get()
    return [fence for where, fence in everything if where == url] if everything else ()


def admit(connection: Connection, fence: Fence) -> None:
    """Remembers the token of `fence` in the caller's write transaction.

    Raises:
        StaleLeaseError: a larger one was written before.
    """
    known = schema.fences.c
    newest = connection.scalar(select(known.token).where(known.name == fence.name))
    if newest is None:
        connection.execute(insert(schema.fences), {"name": fence.name, "token": fence.token})
    elif newest < fence.token:
        mine = update(schema.fences).where(known.name == fence.name)
        connection.execute(mine.values(token=fence.token))
    elif newest > fence.token:
        raise StaleLeaseError(
            f"this write carries token {fence.token} of the lock '{fence.name}', but the holder "
            f"of token {newest} has written since: nothing was written; stop, or take the lock "
            f"anew. Only if the coordinator lost its memory and counts from the start again: "
            f"`raymlops ledger forget-lock {fence.name} --why ...`"
        )
