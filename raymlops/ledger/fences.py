"""The largest token seen of each lock, as the ledger's callers ask for it."""

from __future__ import annotations

from sqlalchemy import select

from raymlops.ledger.database import Database
from raymlops.ledger.fencing import Fence, admit
from raymlops.ledger.schema import fences


class Fences:
    """The largest token seen of each lock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def admit(self, fence: Fence) -> None:
        """Makes the token of `fence` known, or raises StaleLeaseError."""
        query = select(fences.c.token).where(fences.c.name == fence.name)
        with self._database.read() as connection:
            known = connection.scalar(query)
        if known != fence.token:  # the usual case costs no write
            with self._database.write() as connection:
                admit(connection, fence)
