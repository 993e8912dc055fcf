"""A request that is asked twice is carried out once.

Its id and its answer land in the transaction of what it writes. Whoever lost the answer, because
the process that gave it died, asks again under the same id and gets the answer of the first time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, delete, insert, select

from raymlops.ledger.database import Database, now
from raymlops.ledger.schema import requests

REMEMBERED = timedelta(days=1)
"""How long an answer is kept; nobody asks again for that long."""


def once(
    database: Database,
    request_id: str,
    act: Callable[[], Any],
    answers: Callable[[], TypeAdapter[Any]],
) -> Any:
    """What `act` returns; it writes in one transaction, and only the first time.

    Args:
        answers: how the answer is kept as JSON. An act that only reads is carried out each time.
    """

    def begun(connection: Connection) -> None:
        if (known := answer_to(connection, request_id)) is not None:
            raise _Answered(known)

    try:
        with database.one_transaction(begun) as joint:
            answer = act()
            if joint.connection is not None:
                remember(joint.connection, request_id, answers().dump_json(answer).decode())
    except _Answered as first:
        return answers().validate_json(first.answer)
    return answer


def answer_to(connection: Connection, request_id: str) -> str | None:
    """What was answered to this request; None when nothing was."""
    return connection.scalar(select(requests.c.answer).where(requests.c.id == request_id))


def remember(connection: Connection, request_id: str, answer: str) -> None:
    """Keeps an answer in the transaction of what it says was done, and forgets old ones."""
    connection.execute(delete(requests).where(requests.c.at < now() - REMEMBERED))
    connection.execute(insert(requests), {"id": request_id, "answer": answer, "at": now()})


class _Answered(Exception):
    def __init__(self, answer: str) -> None:
        super().__init__(answer)
        self.answer = answer
