"""The way from every older schema to this one, a step a version.

A ledger is brought up to date when it is opened, in the transaction that holds the write lock:
either the whole way is taken or none of it, and no other process sees it half done. A step spells
its tables out and is never changed again: `schema` moves on, and a step must not.
"""

from __future__ import annotations

from collections.abc import Callable

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from raymlops.ledger import seals
from raymlops.ledger.migrations import to_2, to_3, to_4, to_5, to_6
from raymlops.ledger.schema import SCHEMA_VERSION

_STEPS: dict[int, Callable[[Operations], None]] = {
    2: to_2.upgrade,
    3: to_3.upgrade,
    4: to_4.upgrade,
    5: to_5.upgrade,
    6: to_6.upgrade,
}
_SEALED_SINCE = 2


def upgrade(connection: Connection, found: int) -> None:
    """Takes a database of schema `found` to `SCHEMA_VERSION`, in the caller's transaction."""
    operations = Operations(MigrationContext.configure(connection))
    for version in range(found + 1, SCHEMA_VERSION + 1):
        _STEPS[version](operations)
    if found < _SEALED_SINCE:
        seals.seal_all(connection)
