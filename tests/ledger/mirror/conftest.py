"""A real MLflow store in SQLite, read back by MLflow's own client."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mlflow import MlflowClient


def mlflow_client(url: str) -> MlflowClient:
    with warnings.catch_warnings():
        # MLflow's own mappings, under SQLAlchemy 2.1.
        warnings.filterwarnings("ignore", message="The ``noload`` loader strategy")
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=url, registry_uri=url)


@pytest.fixture(scope="session")
def _empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's migrations take seconds: they are run once."""
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    mlflow_client(f"sqlite:///{path}")
    return path


@pytest.fixture
def mlflow_file(_empty_mlflow: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(_empty_mlflow, tmp_path / "mlflow.db"))


@pytest.fixture
def mlflow_url(mlflow_file: Path) -> str:
    return f"sqlite:///{mlflow_file}"


@pytest.fixture
def open_mlflow() -> Callable[[str], MlflowClient]:
    return mlflow_client
