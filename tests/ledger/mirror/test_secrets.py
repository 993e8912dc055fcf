"""No secret leaves the machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from raymlops.errors import MirrorError
from raymlops.ledger import Dataset, Ledger
from raymlops.ledger.mirror import Mirror
from raymlops.storage import Store
from tests.ledger.mirror.mirrored import mirrored_run, start, text_of

if TYPE_CHECKING:
    from mlflow import MlflowClient


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
