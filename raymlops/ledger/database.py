"""Connections to the ledger's database: short write transactions, reads that never block them."""

from __future__ import annotations

import contextlib
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

from sqlalchemy import Connection, Table

from raymlops.config import SecretUrl
from raymlops.errors import LedgerError
from raymlops.ledger import fencing, schema
from raymlops.ledger.appender import Appender
from raymlops.ledger.engines import make_engine, nothing, parse_url
from raymlops.ledger.files import LedgerFile
from raymlops.ledger.lost_log import check_log
from raymlops.ledger.refusals import told_as_ours
from raymlops.ledger.schema.version import bring_up_to_date, schema_version

_logger = logging.getLogger(__name__)

_UNACKNOWLEDGED = "did not acknowledge a write"


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
        self._engine = make_engine(parsed)
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
            with (
                told_as_ours(self._engine, self.url, "did not answer"),
                nothing().connect() as connection,
            ):
                yield connection
            return
        self._notice_replaced()
        with (
            told_as_ours(self._engine, self.url, "did not answer"),
            self._reader.connect() as connection,
        ):
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
        with self._kept(), told_as_ours(self._engine, self.url, _UNACKNOWLEDGED):
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
            told_as_ours(self._engine, self.url, _UNACKNOWLEDGED),
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
            check_log(self._file.path)
        self._prepare_schema()
        if self._file is not None:  # it and its log may just have been made
            now = LedgerFile.at(self._file.path)
            self._file = replace(now, inode=self._file.inode or now.inode)

    def _prepare_schema(self) -> None:
        """Makes the tables, or brings older ones up to date; an up-to-date ledger is only read."""
        with self.read() as connection:
            found = schema_version(connection)
        if found is None:
            with self.write() as connection:
                bring_up_to_date(connection)
        elif found < schema.SCHEMA_VERSION:
            self._bring_up_to_date(found)
        elif found > schema.SCHEMA_VERSION:
            raise LedgerError(
                f"the ledger at {self._shown_url} has schema {found}, this raymlops reads "
                f"schema {schema.SCHEMA_VERSION}; use the raymlops that wrote it, or a newer one"
            )

    def _bring_up_to_date(self, found: int) -> None:
        try:
            with self.write() as connection:
                changed = bring_up_to_date(connection)
        except LedgerError as error:
            raise LedgerError(
                f"the ledger is of schema {found}, this raymlops reads schema "
                f"{schema.SCHEMA_VERSION} and could not bring it there: {error}"
            ) from error
        if changed:
            _logger.warning(
                "the ledger at %s was brought from schema %d to %d, which an earlier raymlops does "
                "not open",
                self._shown_url,
                found,
                schema.SCHEMA_VERSION,
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
