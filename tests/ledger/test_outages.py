"""What callers see of a database that is away: the ledger's own error, whichever it is."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from raymlops.errors import LedgerError
from raymlops.ledger import Code, Ledger, Run, diff, engines, why
from raymlops.ledger.refusals import told_as_ours
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


@pytest.fixture
def restored(tmp_path: Path) -> Iterator[tuple[Ledger, Path, Callable[[], None]]]:
    """A ledger that is open, its file, and what puts a backup of it there."""
    path = tmp_path / "ledger.db"
    with Ledger(f"sqlite:///{path}") as ledger:
        run = start(ledger)
        with sqlite3.connect(path) as found, sqlite3.connect(tmp_path / "backup.db") as backup:
            found.backup(backup)
        found.close()
        backup.close()
        ledger.runs.log(run.id, {"loss": 0.5})
        yield ledger, path, lambda: (tmp_path / "backup.db").replace(path)


def remove_log(path: Path) -> None:
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink()


def test_a_backup_that_took_the_place_of_an_open_ledger_is_gone_on_with(
    restored: tuple[Ledger, Path, Callable[[], None]],
) -> None:
    # What was written from then on was acknowledged, and lay in a file without a name.
    ledger, path, restore = restored
    (run,) = ledger.runs.list()
    remove_log(path)
    restore()
    with Ledger(ledger.url) as other:
        started = start(other)
        assert [each.id for each in ledger.runs.list()] == [run.id, started.id]
        assert ledger.runs.metrics(run.id) == []
        ledger.runs.log(run.id, {"loss": 0.25})
        ledger.runs.finish(run.id)
        assert other.runs.get(run.id).status == "finished"
    with Ledger(ledger.url) as later:
        assert [metric.value for metric in later.runs.metrics(run.id)] == [0.25]


def test_a_backup_beside_the_log_of_the_ledger_before_is_refused_until_that_is_removed(
    restored: tuple[Ledger, Path, Callable[[], None]],
) -> None:
    ledger, path, restore = restored
    (run,) = ledger.runs.list()
    restore()
    for act in (*READS.values(), *WRITES.values()):
        with pytest.raises(LedgerError, match=rf"remove {path}-wal and {path}-shm, then put"):
            act(ledger)
    remove_log(path)
    ledger.runs.log(run.id, {"loss": 0.25})
    assert [metric.value for metric in ledger.runs.metrics(run.id)] == [0.25]


def test_what_was_written_while_a_backup_took_the_place_is_not_acknowledged(
    restored: tuple[Ledger, Path, Callable[[], None]],
) -> None:
    ledger, path, restore = restored

    def write() -> None:
        with ledger.database.write() as connection:
            connection.execute(text("SELECT 1"))
            remove_log(path)
            restore()

    with pytest.raises(LedgerError, match="did not acknowledge a write: another file took"):
        write()
    path.unlink()
    with pytest.raises(LedgerError, match="see that the file is there again"):
        ledger.runs.list()


def test_a_writer_that_stands_still_keeps_nobody_waiting_for_ever(
    postgresql_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stopped, or on a machine that was lost, it held the lock of all writers for two hours.
    url = create_database(postgresql_server, "still")
    with monkeypatch.context() as impatient:  # of the one that stands still alone
        impatient.setitem(engines._SERVER_SIDE, "idle_in_transaction_session_timeout", "1s")
        slow = Ledger(url)

    def write(slow: Ledger, quick: Ledger) -> None:
        with slow.database.write() as connection:
            connection.execute(text("SELECT 1"))
            started.append(start(quick))
            connection.execute(text("SELECT 1"))

    started: list[Run] = []
    with slow, Ledger(url) as quick:
        with pytest.raises(LedgerError, match="did not acknowledge a write"):
            write(slow, quick)
        assert slow.runs.get(started[0].id).status == "running"


def test_a_server_that_takes_no_writes_is_told_as_that(postgresql_server: str) -> None:
    # It said to see that the server runs, which it does.
    url = create_database(postgresql_server, "standby")
    Ledger(url).close()
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("ALTER DATABASE standby SET default_transaction_read_only = on")
    with Ledger(url) as ledger, pytest.raises(LedgerError) as failed:
        start(ledger)
    assert str(failed.value).endswith(
        "in a read-only transaction; it is a standby, or was made so: ledger.url has to name the "
        "server that takes writes"
    )


@pytest.mark.parametrize(
    ("said", "way_out"),
    [
        ("FATAL:  sorry, too many clients already", "end programs that hold connections, or raise"),
        ('FATAL:  too many connections for role "mlops"', "end programs that hold connections, or"),
        ("could not extend file: No space left on device", "free some of the server's disk"),
        ("Connection refused", "see that the server runs and can be reached"),
    ],
)
def test_the_way_out_is_that_of_what_a_server_lacks(said: str, way_out: str) -> None:
    url = "postgresql+psycopg://raymlops@db/raymlops"
    engine = engines.make_engine(engines.parse_url(url))
    with pytest.raises(LedgerError) as failed, told_as_ours(engine, url, "did not answer"):
        raise psycopg.OperationalError(said)
    assert f"; {way_out}" in str(failed.value)


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
