"""A mirror copies what is new, once, whatever became of what it copied before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from raymlops.errors import MirrorError
from raymlops.ledger import Ledger, Run, Version
from raymlops.ledger.mirror import Mirror
from raymlops.storage import Store
from tests.ledger.mirror.mirrored import NOTHING, history, mirrored_run, register, start
from tests.servers.mlflow import mlflow_client

if TYPE_CHECKING:
    from mlflow import MlflowClient


def test_a_second_look_finds_nothing_to_copy(ledger: Ledger, run: Run, mirror: Mirror) -> None:
    ledger.runs.log(run.id, {"loss": 0.5})
    mirror.catch_up()
    assert vars(mirror.catch_up()) == NOTHING
    ledger.runs.log(run.id, {"loss": 0.4}, step=1)
    assert mirror.num_behind() == 1
    assert vars(mirror.catch_up()) == NOTHING | {"num_metrics": 1}


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
