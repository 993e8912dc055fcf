"""Fencing: a write carries the token of the lock it is made under, and a stale one is refused.

A holder that slept through the end of its session does not know that somebody else holds the lock
by now. The database does: each write transaction compares the token with the largest one seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

from sqlalchemy import Connection, insert, select, update

from raymlops.coordination import Lease
from raymlops.errors import StaleLeaseError
from raymlops.ledger.schema import fences

_carried: ContextVar[tuple[tuple[str, Lease], ...]] = ContextVar("raymlops_leases", default=())


@contextlib.contextmanager
def carrying(url: str, *leases: Lease) -> Iterator[None]:
    """Every write of this thread, or task, to the ledger at `url` carries these leases."""
    before = _carried.get()
    new = [each for lease in leases if (each := (url, lease)) not in before]
    token = _carried.set((*before, *new))
    try:
        yield
    finally:
        _carried.reset(token)


def carried(url: str) -> Sequence[Lease]:
    """The leases that writes to the ledger at `url` carry here."""
    everything = _carried.get()
    return [lease for where, lease in everything if where == url] if everything else ()


def admit(connection: Connection, lease: Lease) -> None:
    """Remembers the token of `lease` in the caller's write transaction.

    Raises:
        StaleLeaseError: a larger one was written before.
    """
    newest = connection.scalar(select(fences.c.token).where(fences.c.name == lease.name))
    if newest is None:
        connection.execute(insert(fences), {"name": lease.name, "token": lease.token})
    elif newest < lease.token:
        connection.execute(
            update(fences).where(fences.c.name == lease.name).values(token=lease.token)
        )
    elif newest > lease.token:
        raise StaleLeaseError(
            f"this write carries token {lease.token} of the lock '{lease.name}', but the holder "
            f"of token {newest} has written since: nothing was written; stop, or take the lock anew"
        )
