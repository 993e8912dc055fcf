from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from raymlops.cli.app import app
from raymlops.errors import ConfigError, MirrorError
from raymlops.ledger import Ledger, Run
from tests.runs import start_training
from tests.servers.mlflow import mlflow_client


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with two metrics in the ledger of the home folder `tmp_path`."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        run = start_training(ledger, "tumours")
        ledger.runs.log(run.id, {"loss": 0.5, "auc": 0.75}, step=1)
    return run


def test_mirror_copies_once_and_says_how_much(run: Run, tmp_path: Path, mlflow_url: str) -> None:
    given = ["--home", str(tmp_path), "--set", f"ledger.mlflow.url={mlflow_url}"]
    command = ["mirror", *given, "--json"]
    counts = [
        json.loads(CliRunner().invoke(app, arguments, catch_exceptions=False).stdout)
        for arguments in (command, command, [*command, "--again"])
    ]
    assert [(count["num_runs"], count["num_metrics"]) for count in counts] == [
        (1, 2), (0, 0), (1, 2),
    ]  # fmt: skip
    client = mlflow_client(mlflow_url)
    experiment = client.get_experiment_by_name("tumours")
    assert experiment is not None
    assert experiment.artifact_location == (tmp_path / "mlflow" / "tumours").as_uri()
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.metrics == {"loss": 0.5, "auc": 0.75}


def test_mirror_says_what_to_set_and_what_is_down(run: Run, tmp_path: Path) -> None:
    command = ["mirror", "--home", str(tmp_path)]
    with pytest.raises(ConfigError, match=r"--set ledger\.mlflow\.url=sqlite:///mlflow\.db"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    down = ["--set", f"ledger.mlflow.url=sqlite:///{tmp_path}/ledger.db/mlflow.db"]
    with pytest.raises(MirrorError, match="cannot be reached"):
        CliRunner().invoke(app, [*command, *down], catch_exceptions=False)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("parquet", ["runs.parquet", "metrics.parquet"]),
        ("tensorboard", ["events.out.tfevents.0.raymlops"]),
    ],
)
def test_export_names_the_files_it_wrote(
    run: Run, tmp_path: Path, kind: str, names: list[str]
) -> None:
    command = ["export", kind, str(tmp_path / "out"), "--home", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, [*command, "--model", "tumours"], catch_exceptions=False)
    exported = json.loads(done.stdout)
    assert (exported["num_runs"], exported["num_metrics"]) == (1, 2)
    paths = [Path(path) for path in exported["files"]]
    assert [path.name for path in paths] == names
    assert all(path.is_file() for path in paths)
