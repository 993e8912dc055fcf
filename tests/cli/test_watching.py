from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from raymlops.cli.app import app
from raymlops.errors import ConfigError, DataError, LedgerError, StaleLeaseError
from raymlops.ledger import Decision
from raymlops.operate import Workspace
from tests.cli.commands import run

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def ended_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`watch` without a Ray, interrupted before its first look."""
    ended = threading.Event()
    ended.set()
    monkeypatch.setattr("raymlops.cli.releasing.ended_by_signal", lambda: ended)
    monkeypatch.setattr("raymlops.operate.watch", lambda *_: nullcontext())
    monkeypatch.setattr(Workspace, "connect", lambda _: nullcontext())


@pytest.mark.usefixtures("ended_at_once", "registered")
def test_it_is_told_what_is_watched(home: Path, config: Path, table: Path) -> None:
    run("promote", "tumours@1.0.1", "--why", "first", "--home", home)
    told = run("watch", config, "--data", table, "--home", home)
    assert told == "watching  tumours 1.0.1, every 60 s\n"
    assert run("watch", config, "--data", table, "--home", home, "--json") == ""


@pytest.mark.parametrize("every_s", ["0", "-1", "nan"])
@pytest.mark.usefixtures("ended_at_once", "registered")
def test_it_does_not_look_without_a_pause(
    every_s: str, home: Path, config: Path, table: Path
) -> None:
    run("promote", "tumours@1.0.1", "--why", "first", "--home", home)
    arguments = ("watch", config, "--data", table, "--home", home, "--every-s", every_s)
    refused = CliRunner().invoke(app, [str(each) for each in arguments])
    assert refused.exit_code == 2
    assert f"--every-s is {every_s}, at least 1 is needed" in refused.output


@pytest.mark.usefixtures("ended_at_once", "registered")
def test_data_that_trains_no_challenger_is_told_at_once(
    home: Path, config: Path, tmp_path: Path, tumours: pa.Table
) -> None:
    """It was read when the first challenger was due, months later."""
    run("promote", "tumours@1.0.1", "--why", "first", "--home", home)
    data = tmp_path / "later.parquet"
    with pytest.raises(DataError, match=r"later\.parquet cannot be read"):
        run("watch", config, "--data", data, "--home", home)
    pq.write_table(tumours.select(["mean_radius", "target", "seen_at"]), data)
    with pytest.raises(DataError, match="are trained on: size; it has mean_radius, target, seen_"):
        run("watch", config, "--data", data, "--home", home)


@pytest.mark.usefixtures("ended_at_once", "registered")
def test_rows_are_given_where_challengers_are_trained_on_them(
    home: Path, config: Path, table: Path, tmp_path: Path
) -> None:
    """They had to be, also of a model that is trained elsewhere: it could not be watched."""
    run("promote", "tumours@1.0.1", "--why", "first", "--home", home)
    with pytest.raises(ConfigError, match="tumours is trained on a table: give --data FILE"):
        run("watch", config, "--home", home)
    own = tmp_path / "own.yaml"
    own.write_text("model: tumours\n")
    with pytest.raises(ConfigError, match=r"describe no table \(data\) to train tumours on"):
        run("watch", own, "--data", table, "--home", home)


@pytest.mark.usefixtures("registered")
def test_a_signal_ends_it_whatever_ray_does_at_signals(
    home: Path, config: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray's own handler of SIGTERM took the place of ours, and the process was aborted.
    run("promote", "tumours@1.0.1", "--why", "first", "--home", home)
    handlers = {number: signal.getsignal(number) for number in HANDLED}

    @contextmanager
    def connect(_: Workspace) -> Iterator[None]:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
        yield

    class Operator:
        def tick(self, _: datetime) -> list[Decision]:
            os.kill(os.getpid(), signal.SIGTERM)
            return []

    monkeypatch.setattr(Workspace, "connect", connect)
    monkeypatch.setattr("raymlops.operate.watch", lambda *_: nullcontext(Operator()))
    try:
        told = run("watch", config, "--data", table, "--every-s", "1", "--home", home)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert told == "watching  tumours 1.0.1, every 1 s\n"


@pytest.mark.usefixtures("registered", "ended_at_once")
def test_a_look_that_fails_is_a_line(
    home: Path,
    config: Path,
    table: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # A database that was away for a night left a hundred lines of frames a minute.
    run("promote", "tumours@1.0.1", "--why", "first", "--home", home)
    ended = threading.Event()

    class Operator:
        def tick(self, _: datetime) -> list[Decision]:
            ended.set()
            raise LedgerError("the ledger did not answer")

    monkeypatch.setattr("raymlops.cli.releasing.ended_by_signal", lambda: ended)
    monkeypatch.setattr("raymlops.operate.watch", lambda *_: nullcontext(Operator()))
    run("watch", config, "--data", table, "--every-s", "1", "--home", home)
    (record,) = caplog.records
    assert record.message == (
        "this look at tumours failed, the next is due: the ledger did not answer"
    )
    assert record.exc_info is None


@pytest.mark.usefixtures("registered", "ended_at_once")
def test_an_operator_that_another_replaced_ends(
    home: Path, config: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It looked in vain for ever, and who supervises processes saw one that lives.
    run("promote", "tumours@1.0.1", "--why", "first", "--home", home)

    class Operator:
        def tick(self, _: datetime) -> list[Decision]:
            raise StaleLeaseError("this write carries token 1 of the lock 'operator-tumours'")

    monkeypatch.setattr("raymlops.cli.releasing.ended_by_signal", threading.Event)
    monkeypatch.setattr("raymlops.operate.watch", lambda *_: nullcontext(Operator()))
    with pytest.raises(StaleLeaseError, match="carries token 1 of the lock"):
        run("watch", config, "--data", table, "--every-s", "1", "--home", home)
