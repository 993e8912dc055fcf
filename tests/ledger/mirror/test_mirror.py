from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, insert, update
from sqlalchemy.orm import Session

from raymlops.errors import MirrorError
from raymlops.ledger import Code, Dataset, Ledger, ModelVersion, Run, Version, schema
from raymlops.ledger.mirror import Mirror
from raymlops.storage import Store
from tests.servers.mlflow import mlflow_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

JUNE = datetime(2013, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
NOTHING = {
    "num_runs": 0,
    "num_metrics": 0,
    "num_statuses": 0,
    "num_tags": 0,
    "num_artifacts": 0,
    "num_versions": 0,
    "num_alias_moves": 0,
}


@pytest.fixture
def mirror(ledger: Ledger, store: Store, mlflow_url: str, tmp_path: Path) -> Iterator[Mirror]:
    with Mirror(ledger, store, mlflow_url, artifacts=str(tmp_path / "files")) as mirror:
        yield mirror


@pytest.fixture
def client(mlflow_url: str) -> MlflowClient:
    return mlflow_client(mlflow_url)


def start(ledger: Ledger, *, parent_id: str | None = None, **given: Any) -> Run:
    return ledger.runs.start(
        kind=given.get("kind", "train"),
        model=given.get("model", "tumours"),
        params=given.get("params", {}),
        code=Code(commit="c" * 40, dirty_digest="d" * 64),
        config='{"epochs": 3}',
        environment="python==3.11",
        inputs=given.get("inputs", {}),
        parent_id=parent_id,
    )


def mirrored_run(client: MlflowClient, run: Run) -> Any:
    """The only run in MLflow that mirrors `run`."""
    experiment = client.get_experiment_by_name(run.model)
    assert experiment is not None
    (found,) = client.search_runs(
        [experiment.experiment_id], filter_string=f"tags.`raymlops.id` = '{run.id}'"
    )
    return found


def history(client: MlflowClient, key: str, name: str) -> list[tuple[int, int, str]]:
    """(step, milliseconds, value) of a metric; the value as text, so that NaN equals NaN."""
    found = client.get_metric_history(key, name)
    return sorted((metric.step, metric.timestamp, repr(metric.value)) for metric in found)


def text_of(client: MlflowClient, key: str, name: str, folder: Path) -> str:
    return Path(client.download_artifacts(key, name, str(folder))).read_text()


def write(ledger: Ledger, statement: Any, rows: Any = None) -> None:
    """What other parts of the ledger write, without them."""
    engine = create_engine(ledger.url)
    with Session(engine) as session:
        session.execute(statement, rows)
        session.commit()
    engine.dispose()


def register(ledger: Ledger, store: Store, run: Run, version: Version) -> ModelVersion:
    bundle = store.put_tree(
        {"model.onnx": b"onnx of %s" % str(version).encode(), "a/b.json": b"{}"}
    )
    return ledger.registry.register(
        run.model, bundle=bundle, signature="{}", run_id=run.id, version=version, event_time=JUNE
    )


def test_a_run_reads_the_same_in_mlflow(
    ledger: Ledger, mirror: Mirror, client: MlflowClient, dataset: Dataset, tmp_path: Path
) -> None:
    run = start(ledger, params={"lr": 0.1, "net": "mlp", "deep": [8, 8]}, inputs={"train": dataset})
    ledger.runs.log(run.id, {"loss": 0.5, "auc": 0.7}, step=1)
    ledger.runs.log(run.id, {"loss": 0.25}, step=2)
    ledger.runs.finish(run.id)
    run = ledger.runs.get(run.id)

    copied = mirror.catch_up()

    assert vars(copied) == NOTHING | {"num_runs": 1, "num_metrics": 3, "num_statuses": 1}
    found = mirrored_run(client, run)
    assert found.info.run_name == run.id
    assert found.info.status == "FINISHED"
    assert found.info.start_time == math.floor(run.started_at.timestamp() * 1000)
    assert run.ended_at is not None
    assert found.info.end_time == math.floor(run.ended_at.timestamp() * 1000)
    assert found.data.params == {"lr": "0.1", "net": "mlp", "deep": "[8, 8]"}
    assert found.data.metrics == {"loss": 0.25, "auc": 0.7}
    for name in ("loss", "auc"):
        assert history(client, found.info.run_id, name) == [
            (metric.step, math.floor(metric.at.timestamp() * 1000), repr(metric.value))
            for metric in ledger.runs.metrics(run.id, name)
        ]
    assert found.data.tags["mlflow.source.git.commit"] == "c" * 40
    assert found.data.tags["raymlops.dirty_digest"] == "d" * 64
    assert found.data.tags["raymlops.kind"] == "train"
    key = found.info.run_id
    assert text_of(client, key, "raymlops/config.txt", tmp_path) == '{"epochs": 3}'
    assert text_of(client, key, "raymlops/environment.txt", tmp_path) == "python==3.11"
    (data,) = found.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("tumours", "d" * 36)
    assert json.loads(data.dataset.source)["digest"] == "d" * 64
    assert [(tag.key, tag.value) for tag in data.tags] == [("mlflow.data.context", "train")]


def test_nan_stays_nan_and_infinities_become_the_largest_floats(
    ledger: Ledger, run: Run, mirror: Mirror, client: MlflowClient
) -> None:
    for step, value in enumerate((math.nan, math.inf, -math.inf, 0.0, math.nan)):
        ledger.runs.log(run.id, {"loss": value}, step=step)
    mirror.catch_up()
    found = history(client, mirrored_run(client, run).info.run_id, "loss")
    largest = sys.float_info.max
    assert [(step, value) for step, _, value in found] == [
        (0, "nan"), (1, repr(largest)), (2, repr(-largest)), (3, "0.0"), (4, "nan"),
    ]  # fmt: skip


def test_a_second_look_finds_nothing_to_copy(ledger: Ledger, run: Run, mirror: Mirror) -> None:
    ledger.runs.log(run.id, {"loss": 0.5})
    mirror.catch_up()
    assert vars(mirror.catch_up()) == NOTHING
    ledger.runs.log(run.id, {"loss": 0.4}, step=1)
    assert mirror.num_behind() == 1
    assert vars(mirror.catch_up()) == NOTHING | {"num_metrics": 1}


@pytest.mark.parametrize(
    ("status", "theirs"),
    [("running", "RUNNING"), ("finished", "FINISHED"), ("failed", "FAILED"), ("lost", "KILLED")],
)
def test_every_status_has_its_counterpart(
    ledger: Ledger, run: Run, mirror: Mirror, client: MlflowClient, status: str, theirs: str
) -> None:
    mirror.catch_up()
    assert mirrored_run(client, run).info.status == "RUNNING"
    if status == "failed":
        ledger.runs.fail(run.id, "ZeroDivisionError: division by zero")
    else:
        write(ledger, update(schema.runs).values(status=status))
    mirror.catch_up()
    found = mirrored_run(client, run)
    assert found.info.status == theirs
    if status == "failed":
        assert found.data.tags["raymlops.error"] == "ZeroDivisionError: division by zero"


def test_nested_runs_are_nested_there(
    ledger: Ledger, run: Run, mirror: Mirror, client: MlflowClient
) -> None:
    trial = start(ledger, kind="trial", parent_id=run.id)
    mirror.catch_up()
    parent = mirrored_run(client, run).info.run_id
    assert mirrored_run(client, trial).data.tags["mlflow.parentRunId"] == parent


def test_a_child_that_seems_older_than_its_parent_is_nested_too(
    ledger: Ledger, run: Run, mirror: Mirror, client: MlflowClient
) -> None:
    trial = start(ledger, kind="trial", parent_id=run.id)
    earlier = run.started_at - timedelta(seconds=1)  # another machine's clock
    write(
        ledger, update(schema.runs).where(schema.runs.c.id == trial.id).values(started_at=earlier)
    )
    mirror.catch_up()
    parent = mirrored_run(client, run).info.run_id
    assert mirrored_run(client, trial).data.tags["mlflow.parentRunId"] == parent


def test_what_mlflow_refuses_is_kept_under_another_name_or_in_a_file(
    ledger: Ledger, mirror: Mirror, client: MlflowClient, tmp_path: Path
) -> None:
    run = start(ledger, params={"query": "x" * 7000, "a//b": 1})
    ledger.runs.log(run.id, {"recall@5": 0.5})
    mirror.catch_up()
    found = mirrored_run(client, run)
    assert len(found.data.params["query"]) == 6000
    assert "[7000 characters, sha256 " in found.data.params["query"]
    full = json.loads(text_of(client, found.info.run_id, "raymlops/params.json", tmp_path))
    assert full == {"query": "x" * 7000, "a//b": 1}
    (metric,) = found.data.metrics
    assert found.data.tags[f"raymlops.name.{metric}"] == "recall@5"
    (param,) = (name for name in found.data.params if name != "query")
    assert found.data.tags[f"raymlops.name.{param}"] == "a//b"


def test_a_dataset_in_two_roles_names_both(
    ledger: Ledger, dataset: Dataset, mirror: Mirror, client: MlflowClient
) -> None:
    run = start(ledger, inputs={"train": dataset, "reference": dataset})
    mirror.catch_up()
    (data,) = mirrored_run(client, run).inputs.dataset_inputs
    assert [tag.value for tag in data.tags] == ["reference, train"]


def test_tags_follow_every_change(
    ledger: Ledger, run: Run, mirror: Mirror, client: MlflowClient
) -> None:
    write(
        ledger,
        insert(schema.tags),
        [
            {"run_id": run.id, "name": "owner", "value": "ann"},
            {"run_id": run.id, "name": "note", "value": "n" * 9000},
        ],
    )
    assert mirror.catch_up().num_tags == 2
    tags = mirrored_run(client, run).data.tags
    assert tags["owner"] == "ann"
    assert len(tags["note"]) == 8000
    assert "[9000 characters" in tags["note"]

    write(ledger, update(schema.tags).where(schema.tags.c.name == "owner").values(value="bob"))
    assert mirror.catch_up().num_tags == 1
    assert mirrored_run(client, run).data.tags["owner"] == "bob"


def test_files_of_runs_are_copied_or_referred_to(
    ledger: Ledger, store: Store, run: Run, mlflow_url: str, client: MlflowClient, tmp_path: Path
) -> None:
    small, large, broken = (store.put(data) for data in (b"small", b"l" * 1001, b"broken"))
    blob = Path(store.uri) / "blobs" / broken[:2] / broken
    blob.write_bytes(b"other")
    files = {"plots/roc.txt": small, "large.bin": large, "broken": broken, "lost": "f" * 64}
    rows = [
        {"run_id": run.id, "name": name, "digest": digest, "size_bytes": 6, "at": JUNE}
        for name, digest in files.items()
    ]
    write(ledger, insert(schema.artifacts), rows)
    with Mirror(
        ledger, store, mlflow_url, artifacts=str(tmp_path / "files"), max_file_bytes=1000
    ) as mirror:
        assert mirror.catch_up().num_artifacts == 4
        assert vars(mirror.catch_up()) == NOTHING
    found = mirrored_run(client, run)
    key = found.info.run_id
    assert text_of(client, key, "plots/roc.txt", tmp_path) == "small"
    for name, why in (
        ("large.bin", "it has 1001 bytes, files are copied up to 1000"),
        ("broken", f"blob {broken} in {store.uri} now has digest"),
        ("lost", "the store does not hold it"),
    ):
        note = json.loads(text_of(client, key, f"{name}.reference.json", tmp_path))
        assert note["digest"] == files[name]
        assert note["not_copied_because"].startswith(why)
    for name, digest in files.items():
        assert found.data.tags[f"raymlops.artifact.{name}"] == digest


def test_versions_and_aliases_follow_the_ledger(
    ledger: Ledger,
    store: Store,
    run: Run,
    mirror: Mirror,
    client: MlflowClient,
    tmp_path: Path,
) -> None:
    for number in (0, 1):
        register(ledger, store, run, Version(1, 0, number))
    register(ledger, store, run, Version(2, 0, 0))

    def move(alias: str, version: Version) -> None:
        ledger.registry.move("tumours", alias, version, who="ann", why="better", evidence={})

    move("champion", Version(1, 0, 0))
    move("challenger", Version(1, 0, 1))
    copied = mirror.catch_up()
    assert (copied.num_versions, copied.num_alias_moves) == (3, 2)

    versions = client.search_model_versions("name = 'tumours'")
    kept = ledger.registry.list("tumours")
    assert {version.tags["raymlops.version"]: int(version.version) for version in versions} == {
        "1.0.0": 1,
        "1.0.1": 2,
        "2.0.0": 3,
    }
    by_version = {version.tags["raymlops.version"]: version for version in versions}
    for row in kept:
        theirs = by_version[str(row.version)]
        assert theirs.run_id == mirrored_run(client, run).info.run_id
        assert theirs.tags["raymlops.bundle"] == row.bundle
        assert theirs.tags["raymlops.event_time"] == JUNE.isoformat()
    text = text_of(client, theirs.run_id, "bundles/2.0.0/model.onnx", tmp_path)
    assert text == "onnx of 2.0.0"
    assert theirs.source.endswith("/bundles/2.0.0")
    assert client.get_model_version_by_alias("tumours", "2-0-0").version == theirs.version

    def champion() -> str:
        found = client.get_model_version_by_alias("tumours", "champion")
        return str(found.tags["raymlops.version"])

    assert champion() == "1.0.0"
    move("champion", Version(1, 0, 1))
    move("champion", Version(2, 0, 0))
    assert mirror.catch_up().num_alias_moves == 2
    assert champion() == "2.0.0"
    move("champion", Version(1, 0, 1))  # a rollback
    mirror.catch_up()
    assert champion() == "1.0.1"


def test_what_was_deleted_in_mlflow_stays_deleted_and_stops_nothing(
    ledger: Ledger,
    store: Store,
    run: Run,
    mirror: Mirror,
    client: MlflowClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mirror.catch_up()
    client.delete_run(mirrored_run(client, run).info.run_id)
    other = start(ledger)
    ledger.runs.log(run.id, {"loss": 0.5})
    ledger.runs.log(other.id, {"loss": 0.4})
    register(ledger, store, run, Version(1, 0, 0))
    ledger.registry.move("tumours", "champion", Version(1, 0, 0), who="ann", why="w", evidence={})
    ledger.runs.finish(run.id)

    assert mirror.catch_up().num_metrics == 2

    assert f"run {run.id} was deleted in MLflow" in caplog.text
    assert "tumours 1.0.0 is not registered in MLflow" in caplog.text
    assert mirrored_run(client, other).data.metrics == {"loss": 0.4}
    assert vars(mirror.catch_up()) == NOTHING


def test_an_experiment_that_was_deleted_in_mlflow_stops_nothing(
    ledger: Ledger, run: Run, mirror: Mirror, client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    # The first run of its model that began after that was refused at every look from then on.
    mirror.catch_up()
    experiment = client.get_experiment_by_name(run.model)
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    late, other = start(ledger), start(ledger, model="flights")
    for each in (run, late, other):
        ledger.runs.log(each.id, {"loss": 0.5})
    ledger.runs.finish(late.id)

    assert mirror.catch_up().num_metrics == 3

    assert "experiment tumours was deleted in MLflow; it stays so" in caplog.text
    assert mirrored_run(client, other).data.metrics == {"loss": 0.5}
    assert vars(mirror.catch_up()) == NOTHING


def test_a_store_that_was_lost_is_filled_again_after_forgetting(
    ledger: Ledger, store: Store, run: Run, mlflow_file: Path
) -> None:
    ledger.runs.log(run.id, {"loss": 0.5}, step=1)
    register(ledger, store, run, Version(1, 0, 0))
    backup = mlflow_file.read_bytes()
    url, files = f"sqlite:///{mlflow_file}", str(mlflow_file.parent / "files")
    with Mirror(ledger, store, url, artifacts=files) as mirror:
        mirror.catch_up()
        mirror.forget()
        mirror.catch_up()  # nothing is doubled where nothing was lost
        client = mlflow_client(url)
        assert len(history(client, mirrored_run(client, run).info.run_id, "loss")) == 1
        assert len(client.search_model_versions("name = 'tumours'")) == 1

    mlflow_file.write_bytes(backup)
    with Mirror(ledger, store, url, artifacts=files) as mirror:
        mirror.forget()
        copied = mirror.catch_up()
    assert (copied.num_runs, copied.num_metrics, copied.num_versions) == (1, 1, 1)
    client = mlflow_client(url)
    assert len(history(client, mirrored_run(client, run).info.run_id, "loss")) == 1


@pytest.mark.parametrize(
    "url", ["postgresql://me:secret@host:port/db", "sqlite://mlflow.db", "http://host:port"]
)
def test_a_malformed_url_is_an_error_of_the_mirror(ledger: Ledger, store: Store, url: str) -> None:
    # Each was a traceback.
    with (
        Mirror(ledger, store, url) as mirror,
        pytest.raises(MirrorError, match="cannot be reached") as refused,
    ):
        mirror.catch_up()
    assert "secret" not in str(refused.value)


def test_a_url_that_is_no_mlflow_store_is_refused(ledger: Ledger, store: Store) -> None:
    with pytest.raises(MirrorError, match=r"'mlruns' is no MLflow store: give sqlite:///FILE"):
        Mirror(ledger, store, "mlruns")


def test_no_key_of_the_store_reaches_mlflow(
    ledger: Ledger, dataset: Dataset, client: MlflowClient, mlflow_url: str, tmp_path: Path
) -> None:
    # They stood in the source of every dataset and in every note about a file that was not copied.
    store = Store("s3://AKIAKEY:very-secret@models/ours?endpoint_override=127.0.0.1:1&scheme=http")
    run = start(ledger, inputs={"train": dataset})
    ledger.runs.attach(run.id, "plot.png", digest="d" * 64, size_bytes=2)
    with Mirror(
        ledger, store, mlflow_url, artifacts=str(tmp_path / "files"), max_file_bytes=1
    ) as mirror:
        mirror.catch_up()
    copied = mirrored_run(client, run)
    told = [
        *(each.dataset.source for each in copied.inputs.dataset_inputs),
        text_of(client, copied.info.run_id, "plot.png.reference.json", tmp_path),
    ]
    for text in told:
        assert "s3://AKIAKEY:***@models/ours" in text
        assert "very-secret" not in text
    assert len(told) == 2


def test_no_password_reaches_the_ledger_or_a_message(ledger: Ledger, store: Store) -> None:
    url = "postgresql+psycopg://ann:secret@127.0.0.1:1/mlflow"
    with Mirror(ledger, store, url) as mirror:
        assert mirror.name == "postgresql+psycopg://ann:***@127.0.0.1:1/mlflow"
        with pytest.raises(MirrorError, match=r"ann:\*\*\*@127.0.0.1:1/mlflow cannot be reached"):
            mirror.catch_up()
