"""Column types, and a clock, that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import DateTime, Float
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import TypeDecorator

_FEW = 16  # times that are sooner written one by one than as an array
_TEXT_LENGTH = len("2013-07-01 12:00:00.000000")


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

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any] | None:
        """SQLAlchemy's own for SQLite writes the same text in ten times as long."""
        if dialect.name != "sqlite":
            return super().bind_processor(dialect)

        def encode(value: datetime | None) -> str | None:
            bare = self.process_bind_param(value, dialect)
            return None if bare is None else bare.isoformat(" ", "microseconds")

        return encode

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


def stored_times(times: NDArray[np.float64], backend: str) -> list[Any]:
    """Seconds since 1970, [times], as a `UtcTime` of that backend has them."""
    if backend != "sqlite":
        return [datetime.fromtimestamp(each, UTC).replace(tzinfo=None) for each in times.tolist()]
    if len(times) < _FEW:
        found = [datetime.fromtimestamp(each, UTC) for each in times.tolist()]
        return [each.isoformat(" ", "microseconds")[:_TEXT_LENGTH] for each in found]
    moments = np.rint(times * 1e6).astype("datetime64[us]")
    texts = np.datetime_as_string(moments, unit="us")
    letters = texts.view(np.uint32).reshape(len(texts), -1)
    letters[:, 10] = ord(" ")  # where ISO 8601 has a T
    return list(texts.tolist())


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
