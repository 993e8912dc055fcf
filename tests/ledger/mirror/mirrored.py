"""What tests write to the ledger, and how it reads in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from raymlops.ledger import Code, Dataset, Ledger, ModelVersion, Run, Version
from raymlops.storage import Store

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


def start(
    ledger: Ledger,
    *,
    kind: str = "train",
    model: str = "tumours",
    params: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Dataset] | None = None,
    parent_id: str | None = None,
) -> Run:
    return ledger.runs.start(
        kind=kind,
        model=model,
        params=params or {},
        code=Code(commit="c" * 40, dirty_digest="d" * 64),
        config='{"epochs": 3}',
        environment="python==3.11",
        inputs=inputs or {},
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
