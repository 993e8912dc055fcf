"""Column types, and a clock, that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Float
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import TypeDecorator


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time; SQLite keeps no zone, so it is stripped going in and put back coming out.

    Raises:
        ValueError: the time is naive, so nobody can tell which moment it names.
    """

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"time {value.isoformat()} has no zone; give it one, e.g. UTC")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class Real(TypeDecorator[float]):
    """A float that may be NaN; SQLite turns NaN into NULL, so NULL is read back as NaN."""

    impl = Float(53)
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        return None if value is None or math.isnan(value) else float(value)

    def process_result_value(self, value: float | None, dialect: Dialect) -> float:
        return math.nan if value is None else value


class clock(GenericFunction[datetime]):
    """The database's own time, so that the clocks of the machines around it do not matter."""

    type = UtcTime()
    inherit_cache = True


class age_s(GenericFunction[float]):
    """Seconds since the time in a column, by the database's own clock."""

    type = Float()
    inherit_cache = True


@compiles(clock, "sqlite")
def _(element: clock, compiler: SQLCompiler, **_: Any) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


@compiles(clock, "postgresql")
def _(element: clock, compiler: SQLCompiler, **_: Any) -> str:
    return "(clock_timestamp() AT TIME ZONE 'UTC')"


@compiles(age_s, "sqlite")
def _(element: age_s, compiler: SQLCompiler, **options: Any) -> str:
    then = compiler.process(element.clauses, **options)
    return f"((julianday('now') - julianday({then})) * 86400.0)"


@compiles(age_s, "postgresql")
def _(element: age_s, compiler: SQLCompiler, **options: Any) -> str:
    then = compiler.process(element.clauses, **options)
    return f"EXTRACT(EPOCH FROM (clock_timestamp() AT TIME ZONE 'UTC') - {then})::float8"
