from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from raymlops.ledger import Ledger, Run
from raymlops.storage import Store


@pytest.fixture
def written(ledger: Ledger, store: Store, run: Run) -> Ledger:
    """Three decisions behind the seals of two datasets and of a version whose bundle is in the
    store."""
    bundle = store.put_tree({"model.onnx": b"weights"})
    ledger.registry.register("tumours", bundle=bundle, signature="{}", run_id=run.id)
    for number in range(3):
        ledger.decisions.add(
            model="tumours",
            kind="gate",
            outcome=f"refused {number}",
            who="operator",
            why="not better",
            evidence={"low": math.nan, "share": 0.1, "at": datetime(2024, 1, 1, tzinfo=UTC)},
            event_time=datetime.fromisoformat("2024-01-01T00:00:00-05:00"),
        )
    return ledger


@pytest.fixture(autouse=True)
def _stored_data(ledger: Ledger, store: Store) -> None:
    ledger.datasets.add(
        name="other",
        digest="x",
        manifest=store.put_tree({"table.parquet": b"rows"}),
        fields=(),
        num_rows=1,
        size_bytes=4,
        description="",
    )


def problems(ledger: Ledger, store: Store) -> list[str]:
    # The dataset `run` was started with has a made-up manifest.
    return [each for each in ledger.verify(store).problems if "dataset tumours 1" not in each]


def tamper(ledger: Ledger, statement: str) -> None:
    engine = create_engine(ledger.url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_an_untouched_ledger_has_no_problems(written: Ledger, store: Store) -> None:
    audit = written.verify(store)
    assert problems(written, store) == []
    assert (audit.num_decisions, audit.num_artifacts) == (6, 3)
    assert audit.last_digest == written.decisions.list()[-1].digest


@pytest.mark.parametrize(
    "change",
    ["why = 'better'", "who = 'nobody'", "evidence = '{}'", "at = '2020-01-01 00:00:00.000000'"],
)
def test_a_changed_decision_is_named(written: Ledger, store: Store, change: str) -> None:
    tamper(written, f"UPDATE decisions SET {change} WHERE id = 5")
    assert problems(written, store) == [
        "decision 5 (tumours: refused 1) is not what was written: it was changed"
    ]


def test_a_removed_decision_is_noticed(written: Ledger, store: Store) -> None:
    tamper(written, "DELETE FROM decisions WHERE id = 5")
    assert problems(written, store) == [
        "decision 6 (tumours: refused 2) does not follow the one before it: a decision was "
        "removed or slipped in"
    ]


def test_a_decision_slipped_in_is_noticed(written: Ledger, store: Store) -> None:
    columns = "model, kind, outcome, who, why, evidence, at, event_time, previous, digest"
    tamper(
        written,
        f"INSERT INTO decisions ({columns}) SELECT {columns} FROM decisions WHERE id = 4",
    )
    (problem,) = problems(written, store)
    assert problem.startswith("decision 7 (tumours: refused 0) does not follow the one before it")


def test_a_changed_artifact_is_named(written: Ledger, store: Store) -> None:
    (version,) = written.registry.list("tumours")
    (blob,) = store.tree(version.bundle).values()
    (Path(store.uri) / "blobs" / blob[:2] / blob).write_bytes(b"weightz")
    (problem,) = problems(written, store)
    assert problem.startswith(f"tumours 1.0.0: blob {blob}")
    assert "refused" in problem


def test_a_changed_artifact_of_a_run_is_named(written: Ledger, store: Store, run: Run) -> None:
    plot = store.put(b"a plot")
    written.runs.attach(run.id, "plot.png", plot, 6)
    assert problems(written, store) == []
    (Path(store.uri) / "blobs" / plot[:2] / plot).write_bytes(b"a plop")
    (problem,) = problems(written, store)
    assert problem.startswith(f"artifact 'plot.png' of run {run.id}: blob {plot}")


def test_a_missing_artifact_is_named(written: Ledger, store: Store) -> None:
    manifest = written.datasets.get("other").manifest
    (Path(store.uri) / "blobs" / manifest[:2] / manifest).unlink()
    (problem,) = problems(written, store)
    assert problem.startswith("dataset other 1: ")


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            "UPDATE model_versions SET bundle = '{other}'",
            "tumours 1.0.0 is not what was written: its row was changed",
        ),
        (
            "UPDATE model_versions SET created_at = '2020-01-01 00:00:00.000000'",
            "tumours 1.0.0 is not what was written: its row was changed",
        ),
        ("DELETE FROM model_versions", "tumours 1.0.0, sealed by decision 3, is gone"),
        (
            "UPDATE model_versions SET patch = 7",
            "tumours 1.0.7 has no seal: its row was slipped in, or changed in name or number",
        ),
        (
            "UPDATE datasets SET num_rows = 2 WHERE name = 'other'",
            "dataset other 1 is not what was written: its row was changed",
        ),
        (
            "DELETE FROM datasets WHERE name = 'other'",
            "dataset other 1, sealed by decision 1, is gone",
        ),
        (
            "UPDATE params SET value = '9'",
            "behind tumours 1.0.0 is not what it was: it was changed",
        ),
        (
            "UPDATE run_inputs SET dataset_version = 9",
            "behind tumours 1.0.0 is not what it was: it was changed",
        ),
        (
            "UPDATE runs SET dirty_digest = 'x'",
            "behind tumours 1.0.0 is not what it was: it was changed",
        ),
        (
            "UPDATE alias_moves SET version = '9.9.9'",
            "alias move 1 (tumours: champion -> 9.9.9) is not what decision 7 says",
        ),
        (
            "INSERT INTO alias_moves (model, alias, version, decision_id, at) "
            "SELECT model, 'challenger', version, decision_id, at FROM alias_moves",
            "alias move 2 (tumours: challenger -> 1.0.0) has no decision of its own",
        ),
        (
            "DELETE FROM alias_moves",
            "the move of decision 7 (champion -> 1.0.0) is gone: it was removed",
        ),
        ("DELETE FROM trusted", "trusted by decision 8, is gone: its row was removed"),
        (
            "UPDATE trusted SET digest = 'evil'",
            "nobody vouched for evil: it was slipped in among the trusted",
        ),
        ("UPDATE texts SET text = '[]' WHERE text = '{{}}'", "is not what was kept"),
    ],
)
def test_a_tampered_row_is_named(
    written: Ledger, store: Store, statement: str, problem: str
) -> None:
    (version,) = written.registry.list("tumours")
    written.registry.move(
        "tumours", "champion", version.version, who="me", why="first", evidence={}
    )
    written.trust("a" * 64, who="me", why="our own pickle")
    assert problems(written, store) == []
    tamper(written, statement.format(other=store.put_tree({"model.onnx": b"evil"})))
    found = problems(written, store)
    assert any(problem in each for each in found), found


def test_an_alias_turned_back_by_a_number_is_noticed(written: Ledger, store: Store) -> None:
    first = written.registry.list("tumours")[0]
    second = written.registry.register(
        "tumours",
        bundle=first.bundle,
        signature=written.text(first.signature_digest),
        run_id=first.run_id,
    )
    for version in (first, second):
        written.registry.move(
            "tumours", "champion", version.version, who="me", why="next", evidence={}
        )
    assert problems(written, store) == []
    tamper(written, "UPDATE alias_moves SET id = 99 WHERE id = 1")
    assert written.registry.alias("tumours", "champion") == first.version
    (found,) = problems(written, store)
    assert found == (
        "alias move 99 (tumours: champion -> 1.0.0) stands behind moves that were decided later: "
        "it was renumbered"
    )
