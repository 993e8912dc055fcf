"""The largest token seen of each lock, as the ledger's callers ask for it."""

from __future__ import annotations

from sqlalchemy import delete, select

from raymlops.errors import NotFoundError
from raymlops.ledger import decisions
from raymlops.ledger.database import Database
from raymlops.ledger.fencing import Fence, admit
from raymlops.ledger.records import Decision
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

    def forget(self, name: str, *, who: str, why: str) -> Decision:
        """Lets any token of the lock `name` in again, recorded as a decision; see `Ledger`.

        Raises:
            NotFoundError: no write ever carried a token of that lock.
            ValueError: nobody or no reason is named.
        """
        if not who.strip() or not why.strip():
            raise ValueError(f"forgetting a lock needs a name and a reason: {who!r}, {why!r}")
        with self._database.write() as connection:
            seen = connection.execute(select(fences.c.name, fences.c.token))
            known = {row.name: row.token for row in seen}
            if name not in known:
                raise NotFoundError(
                    f"no write carried a token of a lock '{name}'; known are {sorted(known)}"
                )
            connection.execute(delete(fences).where(fences.c.name == name))
            return decisions.append(
                connection,
                model="",
                kind="fence",
                outcome=f"token {known[name]} of lock {name} is forgotten",
                who=who,
                why=why,
                evidence={"lock": name, "token": known[name]},
                event_time=None,
            )
