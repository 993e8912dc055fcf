"""What callers see of a database that is away: the ledger's own error, whichever it is."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from raymlops.errors import LedgerError
from raymlops.ledger import Code, Ledger, Run, database, diff, why
from tests.servers.postgresql import create_database, postgresql


def start(ledger: Ledger) -> Run:
    return ledger.runs.start(
        kind="train",
        model="flights",
        params={},
        code=Code(commit="c", dirty_digest=None),
        config="{}",
        environment="",
        inputs={},
    )


READS: dict[str, Callable[[Ledger], object]] = {
    "a run": lambda ledger: ledger.runs.get("flights-1"),
    "runs": lambda ledger: ledger.runs.list(where="params.epochs > 1"),
    "the best run": lambda ledger: ledger.runs.best("loss", minimize=True),
    "metrics": lambda ledger: ledger.runs.metrics("flights-1"),
    "versions": lambda ledger: ledger.registry.list("flights"),
    "an alias": lambda ledger: ledger.registry.resolve("flights@champion"),
    "datasets": lambda ledger: ledger.datasets.list(),
    "decisions": lambda ledger: ledger.decisions.list(),
    "a text": lambda ledger: ledger.text("0" * 64),
    "a digest": lambda ledger: ledger.is_recorded("0" * 64),
    "a request": lambda ledger: why(ledger, "request-1"),
    "a difference": lambda ledger: diff(ledger, "flights-1", "flights-2"),
}

WRITES: dict[str, Callable[[Ledger], object]] = {
    "a metric": lambda ledger: ledger.runs.log("flights-1", {"loss": 0.5}),
    "many metrics": lambda ledger: ledger.runs.log_many("flights-1", []),
    "a run": lambda ledger: start(ledger),
    "a decision": lambda ledger: ledger.decisions.add(
        model="m", kind="k", outcome="o", who="w", why="y", evidence={}, event_time=None
    ),
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def away(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Ledger, str]]:
    """A ledger whose database is gone since it was opened, and how it is to be named."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("away") / "ledger.db"
        with (
            Ledger(f"sqlite:///{path}") as ledger,
            ledger.database.read(),  # the one connection there is, which has the file open
        ):
            path.rename(path.with_name("elsewhere.db"))
            path.mkdir()
            yield ledger, str(path)
    else:
        with postgresql() as server:
            address = server.replace("raymlops@", "raymlops:swordfish@")
            create_database(server, "away")
            ledger = Ledger(f"{address}/away")
            run = start(ledger)
            ledger.runs.log(run.id, {"loss": 0.5})
            ledger.runs.finish(run.id)
        with ledger:
            yield ledger, f"{address.replace('swordfish', '***')}/away"


@pytest.mark.parametrize("name", READS)
def test_reading_says_which_ledger_does_not_answer(away: tuple[Ledger, str], name: str) -> None:
    ledger, shown = away
    with pytest.raises(LedgerError) as failed:
        READS[name](ledger)
    said = str(failed.value)
    assert re.match(rf"the ledger at \S*{re.escape(shown)} did not answer: .*; see that the ", said)
    assert "swordfish" not in said
    assert "SELECT" not in said


@pytest.mark.parametrize("name", WRITES)
def test_writing_says_that_nothing_was_acknowledged(away: tuple[Ledger, str], name: str) -> None:
    ledger, shown = away
    with pytest.raises(LedgerError) as failed:
        WRITES[name](ledger)
    said = str(failed.value)
    assert re.match(
        rf"the ledger at \S*{re.escape(shown)} did not .*: .*; see that the ", said, re.DOTALL
    )
    assert "swordfish" not in said
    assert "INSERT" not in said


def test_a_writer_that_stands_still_keeps_nobody_waiting_for_ever(
    postgresql_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stopped, or on a machine that was lost, it held the lock of all writers for two hours.
    monkeypatch.setitem(database._SERVER_SIDE, "idle_in_transaction_session_timeout", "1s")
    url = create_database(postgresql_server, "still")

    def write(slow: Ledger, quick: Ledger) -> None:
        with slow.database.write() as connection:
            connection.execute(text("SELECT 1"))
            started.append(start(quick))
            connection.execute(text("SELECT 1"))

    started: list[Run] = []
    with Ledger(url) as slow, Ledger(url) as quick:
        with pytest.raises(LedgerError, match="did not acknowledge a write"):
            write(slow, quick)
        assert slow.runs.get(started[0].id).status == "running"


@pytest.mark.parametrize(
    ("said", "idle_s", "unsent_ms"),
    [("", 15, 30_000), ("?keepalives_idle=7&tcp_user_timeout=9000", 7, 9_000)],
)
def test_a_cut_cable_is_noticed_in_time(
    postgresql_server: str, said: str, idle_s: int, unsent_ms: int
) -> None:
    # A client waited for two hours for an answer that was lost on the way.
    with (
        Ledger(f"{create_database(postgresql_server, f'cut-{idle_s}')}{said}") as ledger,
        ledger.database.read() as connection,
    ):
        driver = connection.connection.driver_connection
        with socket.socket(fileno=os.dup(driver.fileno())) as found:
            tcp = socket.IPPROTO_TCP
            assert found.getsockopt(tcp, socket.TCP_KEEPIDLE) == idle_s
            assert found.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == unsent_ms
        assert connection.scalar(text("SHOW tcp_user_timeout")) == "30000"
