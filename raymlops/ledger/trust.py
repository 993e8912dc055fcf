"""What may be loaded although loading it can run code: what this ledger recorded."""

from __future__ import annotations

import re

from sqlalchemy import insert, literal, select, union_all

from raymlops.ledger import decisions
from raymlops.ledger.database import Database
from raymlops.ledger.records import Decision
from raymlops.ledger.schema import artifacts, datasets, model_versions, trusted
from raymlops.ledger.schema import decisions as decision_rows

KIND = "trust"
_DIGEST = re.compile("[0-9a-f]{64}")


class Trust:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, digest: str, *, who: str, why: str) -> Decision:
        """Lets `digest` be loaded from now on; the decision says who vouched for it, and why.

        Vouching again changes nothing: the first decision comes back.

        Raises:
            ValueError: `digest` is no SHA-256, or nobody or no reason is named.
        """
        if _DIGEST.fullmatch(digest) is None:
            raise ValueError(f"'{digest}' is no SHA-256: 64 digits of 0-9 and a-f")
        if not who.strip() or not why.strip():
            raise ValueError(f"trusting {digest[:12]} needs a name and a reason: {who!r}, {why!r}")
        with self._database.write() as connection:
            known = connection.execute(
                select(decision_rows).join(trusted).where(trusted.c.digest == digest)
            ).one_or_none()
            if known is not None:
                return decisions.from_row(known)
            decision = decisions.append(
                connection,
                model="",
                kind=KIND,
                outcome=f"{digest} is trusted",
                who=who,
                why=why,
                evidence={"digest": digest},
                event_time=None,
            )
            connection.execute(insert(trusted), {"digest": digest, "decision_id": decision.id})
        return decision

    def is_recorded(self, digest: str) -> bool:
        """Whether it is a registered bundle, an artifact, a dataset's manifest, or trusted."""
        columns = (
            model_versions.c.bundle, artifacts.c.digest, datasets.c.manifest, trusted.c.digest,
        )  # fmt: skip
        found = union_all(
            *(select(literal(1)).select_from(each.table).where(each == digest) for each in columns)
        )
        with self._database.read() as connection:
            return connection.execute(found.limit(1)).first() is not None
