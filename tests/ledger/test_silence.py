"""A PostgreSQL that stands still is told from one that works."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator

import psutil
import pytest
from psycopg.waiting import Ready, Wait
from sqlalchemy import make_url, text

from raymlops.errors import LedgerError
from raymlops.ledger import Ledger, silence
from raymlops.ledger.silence import SILENCE_S, StandsStillError, listened
from tests.servers.postgresql import create_database, postgresql

SHORT_S = SILENCE_S / 2


class Statement:
    """One that is answered by the first that can be read; of each look at it time passes."""

    def __init__(self, is_answered: Callable[[], bool]) -> None:
        self.now_s = 0.0
        self.num_knocks = 0
        self._is_answered = is_answered
        self._waiting = listened(self._steps(), self._knock, clock=lambda: self.now_s)
        assert next(self._waiting) is Wait.R

    def look(self, ready: Ready) -> None:
        self.now_s += SHORT_S
        self._waiting.send(ready)

    def _steps(self) -> Generator[Wait, Ready | int, str]:
        while (yield Wait.R) == Ready.NONE:
            pass
        return "answer"

    def _knock(self) -> bool:
        self.num_knocks += 1
        return self._is_answered()


def test_a_long_statement_of_a_server_that_answers_is_waited_for() -> None:
    statement = Statement(lambda: True)
    for _ in range(100):
        statement.look(Ready.NONE)
    assert statement.num_knocks == 50
    with pytest.raises(StopIteration, match="answer"):
        statement.look(Ready.R)


def test_a_server_that_answers_nobody_is_given_up() -> None:
    statement = Statement(lambda: False)
    statement.look(Ready.NONE)
    statement.look(Ready.NONE)
    with pytest.raises(StandsStillError, match="nothing for 22 s"):
        statement.look(Ready.NONE)


def test_an_answer_that_came_while_it_was_asked_after_counts() -> None:
    statement = Statement(lambda: False)
    statement.look(Ready.NONE)
    statement.look(Ready.NONE)
    with pytest.raises(StopIteration, match="answer"):
        statement.look(Ready.R)


def _serves(process: psutil.Process, port: str) -> bool:
    try:
        return process.name() == "postgres" and port in process.cmdline()
    except psutil.NoSuchProcess:  # another's, which has ended since it was listed
        return False


@pytest.fixture
def stopped() -> Iterator[tuple[Ledger, Callable[[], None], Callable[[], None]]]:
    """A ledger on a server, what stops that and what lets it go on."""
    with postgresql() as server:
        url = create_database(server, "stopped")
        port = str(make_url(url).port)
        children = psutil.Process().children(recursive=True)
        (postmaster,) = (process for process in children if _serves(process, port))

        def tell(number: int) -> None:
            for process in (postmaster, *postmaster.children()):
                os.kill(process.pid, number)

        with Ledger(url) as ledger:
            try:
                yield (
                    ledger,
                    lambda: tell(signal.SIGSTOP),
                    lambda: tell(signal.SIGCONT),
                )
            finally:
                tell(signal.SIGCONT)


def test_a_server_that_was_stopped_is_away_and_comes_back(
    stopped: tuple[Ledger, Callable[[], None], Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Reads and writes waited for ever, and with them whoever is patient for minutes otherwise.
    monkeypatch.setattr(silence, "SILENCE_S", 0.2)
    monkeypatch.setattr(silence, "KNOCK_S", 2)
    ledger, stop, go_on = stopped

    def stopped_between() -> None:
        with ledger.database.write() as connection:
            stop()
            connection.execute(text("SELECT 1"))

    with pytest.raises(LedgerError, match="answers no new connection"):
        stopped_between()
    go_on()
    assert ledger.registry.list("flights") == []
