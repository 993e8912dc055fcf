from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from raymlops.ledger import Ledger
from raymlops.ledger.mirror import Mirror
from raymlops.storage import Store
from tests.servers.mlflow import mlflow_client

if TYPE_CHECKING:
    from mlflow import MlflowClient


@pytest.fixture
def mirror(ledger: Ledger, store: Store, mlflow_url: str, tmp_path: Path) -> Iterator[Mirror]:
    with Mirror(ledger, store, mlflow_url, artifacts=str(tmp_path / "files")) as mirror:
        yield mirror


@pytest.fixture
def client(mlflow_url: str) -> MlflowClient:
    return mlflow_client(mlflow_url)
