"""Which schema a database has, and the way to the newest."""

from __future__ import annotations

from sqlalchemy import Connection, insert, inspect, select, update

from raymlops.ledger import schema

_SCHEMA = "schema"


def schema_version(connection: Connection) -> int | None:
    """None when the database holds no ledger yet."""
    if not inspect(connection).has_table(schema.meta.name):
        return None
    value = connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == _SCHEMA))
    return None if value is None else int(value)


def bring_up_to_date(connection: Connection) -> bool:
    """Makes the tables, or changes older ones, in a transaction that holds the write lock; returns
    whether there was anything to do."""
    found = schema_version(connection)  # another process may have been quicker
    current = str(schema.SCHEMA_VERSION)
    if found is None:
        schema.metadata.create_all(connection)
        connection.execute(insert(schema.meta), {"key": _SCHEMA, "value": current})
    elif found < schema.SCHEMA_VERSION:
        from raymlops.ledger import migrations

        migrations.upgrade(connection, found)
        connection.execute(
            update(schema.meta).where(schema.meta.c.key == _SCHEMA).values(value=current)
        )
    return found is None or found < schema.SCHEMA_VERSION
