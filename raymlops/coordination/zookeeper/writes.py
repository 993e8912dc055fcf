"""Writes that count exactly once, also when the connection breaks before their answer."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable

from kazoo.client import TransactionRequest
from kazoo.exceptions import NodeExistsError, NoNodeError, RolledBackError, RuntimeInconsistency

from raymlops.coordination.zookeeper.session import INTERRUPTIONS, ZooKeeperSession
from raymlops.errors import CoordinationError


class Writes:
    """Each write also sets this session's receipt, an ephemeral node, in the same transaction.

    After an interruption the receipt tells whether the write happened. Only if the session itself
    was lost, and the receipt with it, nobody can know.
    """

    def __init__(self, session: ZooKeeperSession) -> None:
        self._session = session
        self._client = session.client
        self._one_at_a_time = threading.Lock()  # the receipt remembers only the latest
        self._receipt = ""
        self._session_number = -1

    def commit(self, fill: Callable[[TransactionRequest], object]) -> int:
        """The number of the transaction (zxid) that did what `fill` asks of it, all or nothing.

        Raises:
            CoordinationError: the session was lost; the message says that the write may count.
            KazooException: what the ensemble has against it.
        """
        with self._one_at_a_time:
            while True:
                self._make_receipt()
                mark = uuid.uuid4().hex.encode()
                transaction = self._client.transaction()
                fill(transaction)
                transaction.set_data(self._receipt, mark)
                try:
                    results = self._session.ask(transaction.commit_async)
                except INTERRUPTIONS as error:
                    if (zxid := self._zxid_of(mark, error)) is not None:
                        return zxid
                    continue
                if (zxid := self._checked(results)) is not None:
                    return zxid

    def _make_receipt(self) -> None:
        while self._session_number != self._session.number:
            number = self._session.number
            folder = f"{self._session.root}/receipts"
            self._session.ensure(folder)
            receipt = f"{folder}/{uuid.uuid4().hex}"
            with contextlib.suppress(NodeExistsError):  # made by a request whose answer was lost
                self._session.read(self._client.create_async, receipt, ephemeral=True)
            self._receipt, self._session_number = receipt, number

    def _zxid_of(self, mark: bytes, interruption: Exception) -> int | None:
        """Of the transaction that left `mark`; None if it never happened."""
        self._session.wait_connected()
        with contextlib.suppress(NoNodeError):  # it went with its session
            self._session.read(self._client.sync_async, self._receipt)
            value, stat = self._session.read(self._client.get_async, self._receipt)
            return int(stat.mzxid) if value == mark else None
        raise CoordinationError(
            "the ZooKeeper session was lost during a write, which may or may not have happened"
        ) from interruption

    def _checked(self, results: list[object]) -> int | None:
        """The zxid of a transaction's results; None when only our receipt was at fault."""
        errors = [
            (position, result)
            for position, result in enumerate(results)
            if isinstance(result, Exception)
            and not isinstance(result, (RolledBackError, RuntimeInconsistency))
        ]
        if not errors:
            return int(results[-1].mzxid)  # type: ignore[attr-defined]  # kazoo has no types
        position, error = errors[0]
        if position < len(results) - 1:
            raise error
        self._session_number = -1  # somebody removed the receipt
        return None
