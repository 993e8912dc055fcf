"""A real MLflow store in SQLite, read back by MLflow's own client."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.servers.mlflow import mlflow_client


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
