from __future__ import annotations

import math
import sqlite3
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from raymlops.errors import ConflictError, LedgerError, NotFoundError, RefusedError
from raymlops.ledger import Code, Dataset, Ledger, Run, Version


def test_a_run_keeps_parameters_metrics_and_inputs(ledger: Ledger, run: Run) -> None:
    ledger.runs.log(run.id, {"loss": 0.5, "auc": 0.7}, step=1)
    ledger.runs.log(run.id, {"loss": 0.4}, step=2)
    ledger.runs.finish(run.id)

    found = ledger.runs.get(run.id)
    assert found.status == "finished"
    assert found.params == {"epochs": 3}
    assert [(m.step, m.value) for m in ledger.runs.metrics(run.id, "loss")] == [(1, 0.5), (2, 0.4)]
    assert ledger.runs.last_metrics(run.id) == {"loss": 0.4, "auc": 0.7}
    assert ledger.runs.inputs(run.id) == {"train": ("tumours", 1)}
    assert ledger.text(found.config_digest) == "{}"


def test_nan_and_infinity_are_kept(ledger: Ledger, run: Run) -> None:
    ledger.runs.log(run.id, {"nan": math.nan, "high": math.inf, "low": -math.inf})
    last = ledger.runs.last_metrics(run.id)
    assert math.isnan(last["nan"])
    assert (last["high"], last["low"]) == (math.inf, -math.inf)


def test_nested_runs_are_found_by_their_parent(ledger: Ledger, run: Run, dataset: Dataset) -> None:
    nested = ledger.runs.start(
        kind="trial",
        model="tumours",
        params={},
        code=Code(commit="c", dirty_digest=None),
        config="{}",
        environment="",
        inputs={"train": dataset},
        parent_id=run.id,
    )
    assert [found.id for found in ledger.runs.list(parent_id=run.id)] == [nested.id]


def test_what_refers_to_a_run_that_is_not_there_is_refused(ledger: Ledger) -> None:
    with pytest.raises(NotFoundError, match="the ledger holds no run 'nobody'"):
        ledger.runs.start(
            kind="trial",
            model="tumours",
            params={},
            code=Code(commit="c", dirty_digest=None),
            config="{}",
            environment="",
            inputs={},
            parent_id="nobody",
        )
    with pytest.raises(LedgerError, match=r"refused a row: .*; it contradicts what the ledger"):
        ledger.registry.register("tumours", bundle="b", signature="{}", run_id="nobody")
    assert ledger.runs.list() == []
    assert ledger.registry.list("tumours") == []


def test_the_same_content_is_the_same_dataset_version(ledger: Ledger, dataset: Dataset) -> None:
    def add(digest: str) -> Dataset:
        return ledger.datasets.add(
            name="tumours",
            digest=digest,
            manifest="m",
            fields=(),
            num_rows=1,
            size_bytes=1,
            description="",
        )

    assert add(dataset.digest) == dataset
    assert add("e" * 64).version == 2
    assert ledger.datasets.get("tumours").version == 2
    with pytest.raises(NotFoundError, match="no dataset tumours version 9; the ledger holds"):
        ledger.datasets.get("tumours", 9)


def test_one_release_of_a_model_runs_at_a_time(ledger: Ledger) -> None:
    def start() -> int:
        return ledger.releases.start(
            model="tumours",
            champion=Version(1, 0, 0),
            challenger=Version(1, 0, 1),
            strategy={},
            state={"step": 0},
            outcome="canary 5%",
            who="ann",
            why="it is better",
        ).id

    first = start()
    with pytest.raises(ConflictError, match=r"release 1 of tumours 1\.0\.1 is running"):
        start()
    end = partial(ledger.releases.advance, first, {}, "rolled_back", outcome="rolled back")
    end(who="ann", why="it is slow", evidence={"p99": 0.9})
    with pytest.raises(ConflictError, match="is rolled back already"):
        end(who="bob", why="so I think")
    assert ledger.releases.running("tumours") is None
    assert start() == first + 1
    told = [
        (each.outcome, each.who, each.evidence) for each in ledger.decisions.list(model="tumours")
    ]
    assert told == [
        ("1.0.1 canary 5%", "ann", {"release": first}),
        ("challenger -> 1.0.1", "ann", {"release": first}),
        ("1.0.1 rolled back", "ann", {"release": first, "p99": 0.9}),
        ("1.0.1 canary 5%", "ann", {"release": first + 1}),
        ("challenger -> 1.0.1", "ann", {"release": first + 1}),
    ]


def test_a_time_without_a_zone_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="has no zone"):
        ledger.decisions.add(
            model="m",
            kind="k",
            outcome="o",
            who="w",
            why="y",
            evidence={},
            event_time=datetime(2024, 1, 1),
        )


def test_event_times_come_back_in_utc(ledger: Ledger) -> None:
    time = datetime.fromisoformat("2024-01-01T00:00:00-05:00")
    decision = ledger.decisions.add(
        model="m", kind="k", outcome="o", who="w", why="y", evidence={}, event_time=time
    )
    found = ledger.decisions.get(decision.id).event_time
    assert found == datetime(2024, 1, 1, 5, tzinfo=UTC)


def test_times_are_texts_of_equal_length_in_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    time = datetime.fromisoformat("2024-01-01T00:00:00-05:00")
    with Ledger(f"sqlite:///{path}") as ledger:
        ledger.decisions.add(
            model="m", kind="k", outcome="o", who="w", why="y", evidence={}, event_time=time
        )
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT event_time, length(at) FROM decisions").fetchall()
    connection.close()
    assert found == [("2024-01-01 05:00:00.000000", 26)]


def test_the_newest_traffic_table_is_published(ledger: Ledger) -> None:
    assert ledger.releases.published("m") is None
    ledger.releases.publish("m", {"arms": 1})
    second = ledger.releases.publish("m", {"arms": 2})
    ledger.releases.publish("other", {"arms": 3})
    assert ledger.releases.published("m") == (second, {"arms": 2})


def test_what_is_no_text_is_refused(ledger: Ledger, run: Run) -> None:
    # `raymlops why $'\\xff'` was a traceback.
    with pytest.raises(RefusedError, match="takes UTF-8, which a text is not"):
        ledger.runs.get("\udcff")
    with pytest.raises(RefusedError, match="takes UTF-8, which a text is not"):
        ledger.decisions.add(
            model="flights", kind="alias", outcome="x", who="ann", why="\udcff", evidence={}
        )
