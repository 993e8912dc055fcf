"""MLflow's own client, to read back what was mirrored."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient


def mlflow_client(url: str) -> MlflowClient:
    with warnings.catch_warnings():
        # MLflow's own mappings, under SQLAlchemy 2.1.
        warnings.filterwarnings("ignore", message="The ``noload`` loader strategy")
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=url, registry_uri=url)
