"""Runs read the same in MLflow."""

from __future__ import annotations

import json
import math
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, update

from raymlops.ledger import Dataset, Ledger, Run, schema
from raymlops.ledger.mirror import Mirror
from tests.ledger.mirror.mirrored import NOTHING, history, mirrored_run, start, text_of, write

if TYPE_CHECKING:
    from mlflow import MlflowClient


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


@pytest.mark.parametrize(
    ("status", "theirs"),
    [
        ("running", "RUNNING"),
        ("finished", "FINISHED"),
        ("failed", "FAILED"),
        ("interrupted", "KILLED"),
        ("lost", "KILLED"),
    ],
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
