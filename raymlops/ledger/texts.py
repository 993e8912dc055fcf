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


def read(database: Database, digest: str) -> str:
    with database.read() as connection:
        text: str | None = connection.scalar(select(texts.c.text).where(texts.c.digest == digest))
    if text is None:
        raise NotFoundError(f"the ledger holds no text with digest {digest}")
    return text
