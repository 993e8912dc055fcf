"""Connections to the ledger's database: short write transactions, reads that never block them."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Table,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, StaticPool

from raymlops.config import SecretUrl, redact
from raymlops.errors import LedgerError, RefusedError
from raymlops.ledger import fencing, schema
from raymlops.ledger.appender import Appender
from raymlops.ledger.files import LedgerFile
from raymlops.ledger.holders import writer_of
from raymlops.ledger.read_only import is_read_only, read_without_writing
from raymlops.ledger.turns import PATIENCE_S, in_turn, is_busy

_logger = logging.getLogger(__name__)

_SCHEMA = "schema"

# Writers queue, from the first statement of their transaction to its end. So a version is numbered
# and a decision chained on what is newest, and in SQLite no writer that read first fails with
# "database is locked". The number is this ledger's key among PostgreSQL's advisory locks.
_TAKE_WRITE_LOCK = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "SELECT pg_advisory_xact_lock(7241905)",
}

# A cut cable says nothing: without these a client waits for two hours for an answer that was lost
# on the way, and a server as long for a writer whose machine is gone, with all others behind it.
_SILENCE_S = 30
_CLIENT_SIDE = {
    "connect_timeout": 10,
    "keepalives_idle": _SILENCE_S // 2,
    "keepalives_interval": _SILENCE_S // 6,
    "keepalives_count": 3,
    "tcp_user_timeout": _SILENCE_S * 1000,
}
_SERVER_SIDE = {
    "tcp_keepalives_idle": f"{_SILENCE_S // 2}s",
    "tcp_keepalives_interval": f"{_SILENCE_S // 6}s",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": f"{_SILENCE_S}s",
    "idle_in_transaction_session_timeout": f"{PATIENCE_S:g}s",
}
_LIBPQ = ("psycopg", "psycopg2")

# PostgreSQL's class of what exceeds its limits, such as a text too long for an index.
_PROGRAM_LIMIT = "54"

_UNACKNOWLEDGED = "did not acknowledge a write"

_WAY_OUT = {
    "sqlite": "see that the file can be read and written, and that its disk is not full",
    "postgresql": "see that the server runs and can be reached, then ask again",
}


def now() -> datetime:
    return datetime.now(UTC)


class Database:
    """One engine; `write()` is a transaction that holds the write lock from its first statement.

    Args:
        must_exist: whether a SQLite file that is not there is an error rather than made.
        lazily: whether one is made by the first write, or `make`, rather than at once: until then
            there is nothing to read.

    Raises:
        LedgerError: the URL is malformed, its folder cannot be made, the database cannot be
            reached, or it was written by a newer raymlops.
    """

    def __init__(self, url: str, *, must_exist: bool = False, lazily: bool = False) -> None:
        self.url = url
        self._shown_url = SecretUrl(url)
        parsed = parse_url(url)
        backend = parsed.get_backend_name()
        self._file: LedgerFile | None = None
        if backend == "sqlite" and parsed.database:
            path = Path(parsed.database)
            if must_exist and not path.exists():
                raise LedgerError(
                    f"machine {socket.gethostname()} holds no ledger {path}; open it once on the "
                    "head node, or set ledger.url to a PostgreSQL all machines reach"
                )
            self._file = LedgerFile.at(str(path))
        read_only = self._file is not None and is_read_only(self._file.path)
        try:
            self._engine = create_engine(
                parsed,
                pool_pre_ping=backend == "postgresql",
                # One that was opened while nobody wrote would not see who does.
                poolclass=NullPool if read_only else None,
                connect_args=_noticing_silence(parsed),
            )
        except ModuleNotFoundError as error:
            raise LedgerError(
                f"ledger.url names {parsed.drivername}, but {error.name} is not installed; "
                "`pip install raymlops[integrations]`"
            ) from error
        if backend == "sqlite":
            event.listen(self._engine, "connect", _prepare_sqlite)
            if self._file is not None and read_only:
                read_without_writing(self._engine, self._file.path)
        elif "options" not in parsed.query:  # a URL's own settings hold
            event.listen(self._engine, "connect", _prepare_postgresql)
        event.listen(
            self._engine, "begin", functools.partial(_take_write_lock, _TAKE_WRITE_LOCK[backend])
        )
        self._reader = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._pid = os.getpid()
        self._appenders: dict[str, Appender] = {}
        self._reopening = threading.RLock()
        self._is_unmade = lazily and self._file is not None and self._file.inode is None
        try:
            if not self._is_unmade:
                self._open()
        except BaseException:
            self.close()
            raise

    @property
    def backend(self) -> str:
        """Either `sqlite` or `postgresql`."""
        return self._engine.name

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed at the end of the block, rolled back by an exception.

        It carries the fences held here, see `fencing`, and inside `one_transaction` it is that one.

        Raises:
            LedgerError: the database did not acknowledge it.
            RefusedError: it never will.
            StaleLeaseError: a newer holder of one of these locks has written.
        """
        joint = _joint.get()
        if joint is None or joint.database is not self:
            with self._begin() as connection:
                yield connection
            return
        if joint.connection is None:
            joint.connection = joint.stack.enter_context(self._begin())
            joint.begun(joint.connection)
        yield joint.connection

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees what is committed, and inside `one_transaction` that one's.

        Raises:
            LedgerError: the database did not answer.
        """
        joint = _joint.get()
        if joint is not None and joint.database is self and joint.connection is not None:
            yield joint.connection
            return
        self._notice_fork()
        if self._is_unmade and not self._was_made_by_another():
            with _nothing().connect() as connection:
                yield connection
            return
        self._notice_replaced()
        with self._told_as_ours("did not answer"), self._reader.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def one_transaction(self, begun: Callable[[Connection], None]) -> Iterator[_Joint]:
        """Makes everything this thread writes in the block one transaction.

        It begins with the first write, which calls `begun`, and is committed when the block ends.
        """
        with contextlib.ExitStack() as stack:
            joint = _Joint(self, stack, begun)
            stack.callback(_joint.reset, _joint.set(joint))
            yield joint

    def append(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds rows that nothing numbers or chains, all with the same columns; at most speed.

        Raises:
            LedgerError: the database did not take them.
            RefusedError: it never will.
            StaleLeaseError: as `write`.
        """
        if _joint.get() is not None or fencing.carried(self.url):
            with self.write() as connection:
                self.append_in(connection, table, rows)
            return
        with self._kept(), self._told_as_ours(_UNACKNOWLEDGED):
            self._appender(table, rows).append(rows)

    def append_in(
        self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """As `append`, in the transaction of `connection`."""
        self._appender(table, rows).append_in(connection, rows)

    def make(self) -> None:
        """Makes the file of a ledger that was opened lazily, unless it is there."""
        with self._reopening:
            if not self._is_unmade:
                return
            self._is_unmade = False
            try:
                self._open()
            except BaseException:
                self._is_unmade = True
                raise

    def close(self) -> None:
        while self._appenders:
            self._appenders.popitem()[1].close()
        self._engine.dispose()

    def _appender(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> Appender:
        if (appender := self._appenders.get(table.name)) is None:
            made = Appender(self._engine, table, list(rows[0]))
            appender = self._appenders.setdefault(table.name, made)
        return appender

    @contextlib.contextmanager
    def _begin(self) -> Iterator[Connection]:
        with (
            self._kept(),
            self._told_as_ours(_UNACKNOWLEDGED),
            self._engine.begin() as connection,
        ):
            for fence in fencing.carried(self.url):
                fencing.admit(connection, fence)
            yield connection

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """What is written in the block lies in the file that has the ledger's name at its end."""
        self._notice_fork()
        self.make()
        file = self._notice_replaced()
        yield
        if file is not None and file.is_replaced():
            raise LedgerError(
                f"the ledger at {self._shown_url} {_UNACKNOWLEDGED}: another file took its place, "
                "in which that is not; write it again"
            )

    @contextlib.contextmanager
    def _told_as_ours(self, what: str) -> Iterator[None]:
        """Tells what the database or a column refused without SQL, values and password."""
        driver = self._engine.dialect.loaded_dbapi
        try:
            yield
        except (DBAPIError, PoolTimeout, driver.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            told = f"the ledger at {self._shown_url}"
            said = redact(" ".join(str(cause).split()))
            if (why := _never_stored(cause, driver)) is not None:
                raise RefusedError(f"{told} refused a row: {said}; {why}") from error
            raise LedgerError(f"{told} {what}: {said}; {self._way_out(cause)}") from error
        except StatementError as error:
            raise error.orig or error from None

    def _way_out(self, cause: BaseException | None) -> str:
        if is_busy(cause) and (writer := writer_of(self.url)) is not None:
            return f"all others have waited {PATIENCE_S:g} s for {writer}"
        return _WAY_OUT[self.backend]

    def _notice_fork(self) -> None:
        """Gives a forked child connections of its own. Those of its parent are kept aside: to use
        or to close them here would break them there."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            _of_parents.append((self._engine.pool, self._appenders))
            self._appenders = {}
            self._engine.dispose(close=False)

    def _notice_replaced(self) -> LedgerFile | None:
        """The file of now; one that took the place of that which was open is opened instead.

        Connections of other threads to the earlier one are closed once they are given back.
        """
        file = self._file
        if file is None or not file.is_replaced():
            return file
        with self._reopening:
            if self._file is file:
                successor = file.successor()
                self.close()
                try:
                    self._file = successor
                    self._open()
                except BaseException:
                    self._file = file
                    raise
                _logger.warning("another file is the ledger %s now: opened it", file.path)
            return self._file

    def _was_made_by_another(self) -> bool:
        assert self._file is not None, "only a file can be unmade"
        if os.path.exists(self._file.path):
            self.make()
        return not self._is_unmade

    def _open(self) -> None:
        if self._file is not None:
            path = Path(self._file.path)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LedgerError(f"ledger {path} has no folder: {error}") from error
        self._prepare_schema()
        if self._file is not None:  # it and its log may just have been made
            now = LedgerFile.at(self._file.path)
            self._file = replace(now, inode=self._file.inode or now.inode)

    def _prepare_schema(self) -> None:
        """Makes the tables, or brings older ones up to date; an up-to-date ledger is only read."""
        with self.read() as connection:
            found = _schema_version(connection)
        if found is None or found < schema.SCHEMA_VERSION:
            with self.write() as connection:
                _bring_up_to_date(connection)
        elif found > schema.SCHEMA_VERSION:
            raise LedgerError(
                f"the ledger at {self._shown_url} has schema {found}, this raymlops reads "
                f"schema {schema.SCHEMA_VERSION}; use the raymlops that wrote it, or a newer one"
            )


class _Joint:
    """A transaction that several writes of one thread share."""

    def __init__(
        self, database: Database, stack: contextlib.ExitStack, begun: Callable[[Connection], None]
    ) -> None:
        self.database = database
        self.stack = stack
        self.begun = begun
        self.connection: Connection | None = None


_joint: ContextVar[_Joint | None] = ContextVar("raymlops_transaction", default=None)
_of_parents: list[object] = []


def parse_url(url: str) -> URL:
    """Raises LedgerError unless `url` names a database the ledger can be kept in."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise LedgerError(
            f"ledger.url '{SecretUrl(url)}' is no database URL, e.g. sqlite:///ledger.db"
        ) from None  # SQLAlchemy's own error repeats the URL, and the password in it
    backend = parsed.get_backend_name()
    if backend not in _TAKE_WRITE_LOCK:
        known = " and ".join(_TAKE_WRITE_LOCK)
        raise LedgerError(f"ledger.url names {backend}; the ledger is kept by {known}")
    return parsed


def _never_stored(cause: BaseException | None, driver: Any) -> str | None:
    """Why the database can never take a row; None where another time it may."""
    if isinstance(cause, driver.IntegrityError):
        return "it contradicts what the ledger holds"
    is_too_large = (getattr(cause, "sqlstate", None) or "").startswith(_PROGRAM_LIMIT)
    if isinstance(cause, driver.DataError) or is_too_large:
        return "it holds a value that its column cannot"
    return None


def _schema_version(connection: Connection) -> int | None:
    """None when the database holds no ledger yet."""
    if not inspect(connection).has_table(schema.meta.name):
        return None
    value = connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == _SCHEMA))
    return None if value is None else int(value)


def _bring_up_to_date(connection: Connection) -> None:
    found = _schema_version(connection)  # another process may have been quicker
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


@functools.cache
def _nothing() -> Engine:
    """What is read of a ledger that nobody has made."""
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    schema.metadata.create_all(engine)
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _prepare_sqlite(connection: Any, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions are begun by _take_write_lock alone
    for pragma in (
        f"busy_timeout={PATIENCE_S * 1000:.0f}",
        "journal_mode=WAL",
        "synchronous=FULL",  # an acknowledged write survives a power cut
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _noticing_silence(url: URL) -> dict[str, int]:
    """What the driver is told of the network, but what the URL says itself."""
    if url.get_driver_name() not in _LIBPQ:
        return {}
    return {key: value for key, value in _CLIENT_SIDE.items() if key not in url.query}


def _prepare_postgresql(connection: Any, _: ConnectionPoolEntry) -> None:
    with connection.cursor() as cursor:
        cursor.execute("; ".join(f"SET {key} = '{value}'" for key, value in _SERVER_SIDE.items()))
    connection.commit()


def _take_write_lock(statement: str, connection: Connection) -> None:
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        return
    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.driver_connection
        in_turn(driver, connection.engine.url, lambda: driver.execute(statement))
    else:
        connection.exec_driver_sql(statement)
