from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, insert, inspect, select

from raymlops.errors import LedgerError
from raymlops.ledger import Labels, Ledger, schema
from raymlops.ledger.migrations import to_2
from tests.ledger import schema_1

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def old_url(ledger_url: str) -> str:
    """A ledger of schema 1 that holds a run with parameters and a dataset."""
    engine = create_engine(ledger_url)
    with engine.begin() as connection:
        schema_1.metadata.create_all(connection)
        connection.execute(insert(schema_1.meta), {"key": "schema", "value": "1"})
        connection.execute(insert(schema_1.texts), {"digest": "t", "text": "{}"})
        connection.execute(
            insert(schema_1.runs),
            {
                "id": "old", "kind": "train", "model": "tumours", "status": "finished",
                "params": {"epochs": 3, "optimiser": "adam", "hidden": [64, 32]},
                "commit": "c", "config_digest": "t", "environment_digest": "t",
                "started_at": START, "ended_at": START,
            },
        )  # fmt: skip
        connection.execute(
            insert(schema_1.datasets),
            {
                "name": "tumours", "version": 1, "digest": "d", "manifest": "m", "fields": [],
                "num_rows": 1, "size_bytes": 1, "description": "", "created_at": START,
            },
        )  # fmt: skip
        for name in ("joined", "alone"):
            connection.execute(
                insert(schema_1.labels),
                {"request_id": name, "model": "tumours", "labels": b"\1", "at": START},
            )
        connection.execute(
            insert(schema_1.predictions),
            {
                "request_id": "joined", "model": "tumours", "version": "1.0.0", "arm": "champion",
                "num_rows": 1, "scores": bytes(4), "served_at": START, "event_time": START,
                "replica": "r",
            },
        )  # fmt: skip
    engine.dispose()
    return ledger_url


def test_an_older_ledger_keeps_what_it_holds(old_url: str) -> None:
    with Ledger(old_url) as ledger:
        run = ledger.runs.get("old")
        assert run.params == {"epochs": 3, "optimiser": "adam", "hidden": [64, 32]}
        assert run.started_at == START
        assert ledger.datasets.get("tumours").digest == "d"
        (seal,) = ledger.decisions.list()
        assert (seal.kind, seal.outcome) == ("dataset", "dataset tumours 1")
        ((_, outcome),) = ledger.observations.joined("tumours", after=0, limit=9)
        assert outcome.request_id == "joined"
        again = Labels(request_id="alone", model="tumours", labels=b"\1", at=START)
        assert ledger.observations.add_labels([again]) == 0  # it still waits for its prediction
        others = [replace(again, model="other", request_id=name) for name in ("joined", "alone")]
        assert ledger.observations.add_labels(others) == 2  # an id is that of a model


def test_an_older_ledger_becomes_what_a_new_one_is(old_url: str) -> None:
    Ledger(old_url).close()
    engine = create_engine(old_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, schema.metadata) == []
        assert connection.scalar(select(schema.meta.c.value)) == str(schema.SCHEMA_VERSION)
    engine.dispose()


def test_who_changes_a_ledger_says_so_once(old_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A new version that was tried on a home shut out the one before it without a word."""
    for _ in range(2):
        Ledger(old_url).close()
    (told,) = caplog.messages
    assert f"was brought from schema 1 to {schema.SCHEMA_VERSION}, which an earlier" in told


def test_a_step_that_fails_changes_nothing(old_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LedgerError("the disk is full")

    monkeypatch.setattr(to_2, "_move_params", fail)
    told = f"of schema 1, this raymlops reads schema {schema.SCHEMA_VERSION} and could not .* full"
    with pytest.raises(LedgerError, match=told):
        Ledger(old_url)
    engine = create_engine(old_url)
    assert not inspect(engine).has_table("params")
    with engine.connect() as connection:
        assert connection.scalar(select(schema_1.meta.c.value)) == "1"
    engine.dispose()
