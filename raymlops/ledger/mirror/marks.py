"""What a mirror has copied, kept in the ledger beside what it copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, insert, select

from raymlops.ledger.database import Database
from raymlops.ledger.schema import mirrored

RUN = "run"
STATUS = "status"
TAG = "tag"
ARTIFACT = "artifact"
VERSION = "version"
METRICS = "metrics"
MOVES = "moves"

Mark = Mapping[str, Any]


class Marks:
    """The marks of the mirror called `mirror`.

    kind      key               value
    run       run id            {"mlflow": run id there}, and {"gone": true} once it was deleted
    status    run id            {"value": ours}
    tag       run id/name       {"value": text}
    artifact  run id/name       {"value": digest}
    version   model/1.2.3       {"mlflow": number there}
    metrics   ""                {"last": id of the last metric copied}
    moves     ""                {"last": id of the last alias move copied}
    """

    def __init__(self, database: Database, mirror: str) -> None:
        self._database = database
        self._mirror = mirror

    def get(self, kind: str, key: str = "") -> Mark | None:
        query = select(mirrored.c.value).where(
            mirrored.c.mirror == self._mirror, mirrored.c.kind == kind, mirrored.c.key == key
        )
        with self._database.read() as connection:
            value: Mark | None = connection.scalar(query)
        return value

    def keep(self, kind: str, values: Mapping[str, Mark]) -> None:
        """Sets the marks by key, all of them or none."""
        if not values:
            return
        rows = [
            {"mirror": self._mirror, "kind": kind, "key": key, "value": dict(value)}
            for key, value in values.items()
        ]
        with self._database.write() as connection:
            connection.execute(
                delete(mirrored).where(
                    mirrored.c.mirror == self._mirror,
                    mirrored.c.kind == kind,
                    mirrored.c.key.in_(list(values)),
                )
            )
            connection.execute(insert(mirrored), rows)

    def forget(self) -> None:
        with self._database.write() as connection:
            connection.execute(delete(mirrored).where(mirrored.c.mirror == self._mirror))
