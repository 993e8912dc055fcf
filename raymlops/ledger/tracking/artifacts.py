"""Artifacts of runs: blobs of the store, each under a name that stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from raymlops.errors import ConflictError
from raymlops.ledger.database import now
from raymlops.ledger.records import Artifact
from raymlops.ledger.schema import artifacts


def add(
    connection: Connection, run_id: str, name: str, *, digest: str, size_bytes: int
) -> Artifact:
    """The artifact, added unless it is there already.

    Raises:
        ConflictError: another one has that name.
    """
    mine = select(artifacts).where(artifacts.c.run_id == run_id, artifacts.c.name == name)
    known = connection.execute(mine).one_or_none()
    if known is not None and known.digest != digest:
        raise ConflictError(
            f"artifact '{name}' of run {run_id} is {known.digest}; {digest} needs a name of its own"
        )
    if known is None:
        row = {"run_id": run_id, "name": name, "digest": digest, "size_bytes": size_bytes}
        connection.execute(insert(artifacts), {**row, "at": now()})
        known = connection.execute(mine).one()
    return _artifact(known)


def read(connection: Connection, run_id: str) -> Sequence[Artifact]:
    """In the order of their names."""
    query = select(artifacts).where(artifacts.c.run_id == run_id).order_by(artifacts.c.name)
    return [_artifact(row) for row in connection.execute(query)]


def read_all(connection: Connection) -> Sequence[tuple[str, Artifact]]:
    """Every run's, each beside the id of its run."""
    query = select(artifacts).order_by(artifacts.c.run_id, artifacts.c.name)
    return [(row.run_id, _artifact(row)) for row in connection.execute(query)]


def _artifact(row: Row[Any]) -> Artifact:
    return Artifact(name=row.name, digest=row.digest, size_bytes=row.size_bytes, at=row.at)
