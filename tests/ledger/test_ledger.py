from __future__ import annotations

import math
import sqlite3
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from raymlops.data import TableSchema
from raymlops.errors import ConflictError, LedgerError, NotFoundError, RefusedError
from raymlops.ledger import Code, Dataset, Ledger, Run, Version
from raymlops.ledger.tracking.runs import Runs


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


def test_a_run_that_raises_is_failed_with_its_error(ledger: Ledger, run: Run) -> None:
    with pytest.raises(ZeroDivisionError), ledger.runs.recording(run):
        _ = 1 / 0
    found = ledger.runs.get(run.id)
    assert (found.status, found.error) == ("failed", "ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("ended", "told"),
    [(KeyboardInterrupt(), "KeyboardInterrupt"), (SystemExit(15), "SystemExit: 15")],
)
def test_a_run_that_somebody_ended_is_interrupted(
    ledger: Ledger, run: Run, ended: BaseException, told: str
) -> None:
    """It was failed, and who looks for what went wrong was shown every Ctrl-C."""
    with pytest.raises(type(ended)), ledger.runs.recording(run):
        raise ended
    found = ledger.runs.get(run.id)
    assert (found.status, found.error) == ("interrupted", told)
    assert ledger.runs.list(status="interrupted") == [found]


@pytest.mark.parametrize("is_written", [False, True])
def test_what_finished_waits_for_a_ledger_that_is_away(
    is_written: bool, ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days of training were recorded as lost where its database failed over at their end."""
    monkeypatch.setattr("raymlops.ledger.tracking.runs._RETRY_S", 0.0)
    end, num_tries = Runs.end, 0

    def away(runs: Runs, *args: Any) -> None:
        nonlocal num_tries
        num_tries += 1
        if is_written or num_tries > 3:
            end(runs, *args)
        if num_tries <= 3:
            raise LedgerError("the database is away")

    monkeypatch.setattr(Runs, "end", away)
    with ledger.runs.recording(run):
        pass
    assert ledger.runs.get(run.id).status == "finished"
    assert num_tries == (1 if is_written else 4)


def test_what_never_comes_back_is_not_waited_for_without_end(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("raymlops.ledger.tracking.runs._RETRY_S", 0.0)
    monkeypatch.setattr("raymlops.ledger.tracking.runs._PATIENCE_S", 0.05)

    def away(*_: object) -> None:
        raise LedgerError("the database is away")

    monkeypatch.setattr(Runs, "end", away)
    with pytest.raises(LedgerError, match="the database is away"), ledger.runs.recording(run):
        pass
    told = f"run {run.id} has finished, and waits to say so: the database is away"
    assert caplog.messages == [told]


def test_a_run_that_somebody_else_failed_does_not_finish(ledger: Ledger, run: Run) -> None:
    with pytest.raises(LedgerError, match="is failed already"), ledger.runs.recording(run):
        ledger.runs.fail(run.id, "TrainingError: killed")


def test_why_a_run_failed_is_raised_though_the_ledger_does_not_take_it(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a full disk the caller was told of the ledger, and not what had filled it."""

    def full(*_: object) -> None:
        raise LedgerError("database or disk is full")

    monkeypatch.setattr(type(ledger.runs), "fail", full)
    with pytest.raises(ZeroDivisionError), ledger.runs.recording(run):
        _ = 1 / 0
    told = f"how run {run.id} ended is not recorded: database or disk is full"
    assert told in caplog.messages


def test_a_run_ends_once(ledger: Ledger, run: Run) -> None:
    ledger.runs.finish(run.id)
    with pytest.raises(LedgerError, match="is finished already, it cannot become failed"):
        ledger.runs.fail(run.id, "late")


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


def test_versions_are_numbered_from_the_largest_and_never_overwritten(
    ledger: Ledger, run: Run
) -> None:
    registry = ledger.registry

    def register(**more: object) -> str:
        version = registry.register(
            "tumours",
            bundle="b",
            signature="{}",
            run_id=run.id,
            **more,  # type: ignore[arg-type]
        )
        return str(version.version)

    assert register() == "1.0.0"
    assert register(version=Version(1, 9, 0)) == "1.9.0"
    assert register(version=Version(1, 10, 0)) == "1.10.0"
    # A rollback must not make the registry number from the version it went back to.
    registry.move("tumours", "champion", Version(1, 0, 0), who="me", why="rollback", evidence={})
    assert register() == "1.10.1"
    assert register(bump="major") == "2.0.0"
    assert [str(v.version) for v in registry.list("tumours")] == [
        "1.0.0", "1.9.0", "1.10.0", "1.10.1", "2.0.0",
    ]  # fmt: skip
    with pytest.raises(ConflictError, match=r"tumours 1\.9\.0 exists already; the newest is 2"):
        register(version=Version(1, 9, 0))


def test_references_resolve_by_alias_and_by_version(ledger: Ledger, run: Run) -> None:
    with pytest.raises(NotFoundError, match="no model 'tumours', nor any other; `raymlops doctor`"):
        ledger.registry.resolve("tumours@champion")
    first = ledger.registry.register("tumours", bundle="b", signature="{}", run_id=run.id)
    ledger.registry.move(
        "tumours", "champion", first.version, who="me", why="the first", evidence={"auc": 0.9}
    )
    assert ledger.registry.resolve("tumours@champion") == first
    assert ledger.registry.resolve("tumours@1.0.0") == first
    with pytest.raises(NotFoundError, match="tumours has no alias 'latest'; it has champion"):
        ledger.registry.resolve("tumours@latest")
    with pytest.raises(NotFoundError, match="holds no model 'tumuors', but tumours"):
        ledger.registry.resolve("tumuors@champion")
    with pytest.raises(NotFoundError, match=r"no tumours 3\.0\.0; the ledger holds 1\.0\.0"):
        ledger.registry.resolve("tumours@3.0.0")
    with pytest.raises(NotFoundError, match=r"no tumours@1: .* the ledger holds 1\.0\.0"):
        ledger.registry.resolve("tumours@1")
    with pytest.raises(NotFoundError, match="no model 'tumuors'"):
        ledger.registry.resolve("tumuors@1")
    with pytest.raises(NotFoundError, match="write MODEL@ALIAS"):
        ledger.registry.resolve("tumours")


@pytest.mark.parametrize("name", ["a@b", "my model/v1", "../x", "", "-x", "flüge"])
def test_a_model_that_nothing_could_name_is_not_registered(
    ledger: Ledger, run: Run, name: str
) -> None:
    # a@b was made champion, and a@b@champion was refused as alias b@champion of a.
    with pytest.raises(ValueError, match=f"model '{name}' cannot be part of a URL"):
        ledger.registry.register(name, bundle="b", signature="{}", run_id=run.id)
    with pytest.raises(ValueError, match=f"dataset '{name}' cannot be part of a URL"):
        TableSchema(dataset=name, target="y", event_time="at", features=())
    assert ledger.registry.models() == []


def test_an_alias_cannot_name_a_version_that_does_not_exist(ledger: Ledger, run: Run) -> None:
    with pytest.raises(NotFoundError):
        ledger.registry.move(
            "tumours", "champion", Version(1, 0, 0), who="me", why="no", evidence={}
        )
    assert ledger.registry.moves("tumours") == []
    assert ledger.decisions.list(model="tumours") == []


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


def test_a_ledger_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Ledger(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '999' WHERE key = 'schema'")
    connection.close()
    with pytest.raises(LedgerError, match="has schema 999, this raymlops reads schema"):
        Ledger(f"sqlite:///{path}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "ledger.url 'nonsense' is no database URL, e.g. sqlite:///ledger.db"),
        ("mysql://host/db", "ledger.url names mysql; the ledger is kept by sqlite and postgresql"),
        ("postgresql://me:secret@host:port/db", r"postgresql://.*host.*' is no database URL"),
        ("postgresql://me:secret@[::1/db", "is no database URL"),
        ("sqlite://ledger.db", "'sqlite://ledger.db' is no database URL, e.g. sqlite:///ledger.db"),
        (
            "postgresql+foo://me:secret@host/db",
            r"ledger.url names postgresql\+foo, which SQLAlchemy does not know: write postgresql",
        ),
        ("sqlite:////proc/nope/ledger.db", "ledger /proc/nope/ledger.db has no folder: "),
        (
            "postgresql+psycopg://me:secret@127.0.0.1:1/db",
            r"the ledger at postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/db did not answer",
        ),
    ],
)
def test_an_unusable_url_is_named_without_its_password(url: str, message: str) -> None:
    with pytest.raises(LedgerError, match=message) as refused:
        Ledger(url)
    assert "secret" not in str(refused.value)


def test_a_ledger_opened_lazily_is_made_by_the_first_write(tmp_path: Path) -> None:
    path = tmp_path / "home" / "ledger.db"
    with (
        Ledger(f"sqlite:///{path}", lazily=True) as reader,
        Ledger(f"sqlite:///{path}", lazily=True) as writer,
    ):
        assert (reader.datasets.list(), writer.runs.list()) == ([], [])
        assert not path.parent.exists()
        writer.releases.publish("m", {"arms": []})
        assert reader.releases.published("m") == (1, {"arms": []})
        reader.releases.publish("m", {"arms": [1]})
        assert writer.releases.published("m") == (2, {"arms": [1]})


def test_a_ledger_opened_lazily_can_be_made_for_others(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Ledger(url, lazily=True) as ledger:
        ledger.make()
        Ledger(url, must_exist=True).close()


def test_what_is_no_text_is_refused(ledger: Ledger, run: Run) -> None:
    # `raymlops why $'\\xff'` was a traceback.
    with pytest.raises(RefusedError, match="takes UTF-8, which a text is not"):
        ledger.runs.get("\udcff")
    with pytest.raises(RefusedError, match="takes UTF-8, which a text is not"):
        ledger.decisions.add(
            model="flights", kind="alias", outcome="x", who="ann", why="\udcff", evidence={}
        )
