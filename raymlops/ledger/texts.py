"""Bulky text that many rows share, kept once under its digest."""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection, insert, select

from raymlops.errors import NotFoundError
from raymlops.ledger.database import Database
from raymlops.ledger.schema import texts


def keep(connection: Connection, text: str) -> str:
    """The SHA-256 of `text`, which is stored unless it is there already."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    known = connection.scalar(select(texts.c.digest).where(texts.c.digest == digest))
    if known is None:
        connection.execute(insert(texts), {"digest": digest, "text": text})
    return digest


def read(connection: Connection, digest: str) -> str:
    """Raises NotFoundError when the ledger holds no such text."""
    text: str | None = connection.scalar(select(texts.c.text).where(texts.c.digest == digest))
    if text is None:
        raise NotFoundError(f"the ledger holds no text with digest {digest}")
    return text


class Texts:
    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, digest: str) -> str:
        with self._database.read() as connection:
            return read(connection, digest)

    def changed(self) -> list[str]:
        """The digests of texts that are no longer what was kept."""
        with self._database.read() as connection:
            return [
                row.digest
                for row in connection.execute(select(texts).order_by(texts.c.digest))
                if hashlib.sha256(row.text.encode()).hexdigest() != row.digest
            ]
