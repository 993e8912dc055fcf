"""What tests of several houses share: a ledger, a store, a small real table."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from sklearn.datasets import load_breast_cancer

from raymlops.cluster import ClusterSettings, Session, connect, down, up
from raymlops.config import secret
from raymlops.data import Feature, TableSchema
from raymlops.ledger import Code, Dataset, Ledger, Run
from raymlops.storage import Store
from tests.servers.mlflow import mlflow_client

# No test depends on how busy the machine is.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        yield ledger


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def dataset(ledger: Ledger) -> Dataset:
    return ledger.datasets.add(
        name="tumours",
        digest="d" * 64,
        manifest="m" * 64,
        fields=(("radius", "double"),),
        num_rows=569,
        size_bytes=1000,
        description="all",
    )


@pytest.fixture
def run(ledger: Ledger, dataset: Dataset) -> Run:
    return ledger.runs.start(
        kind="train",
        model="tumours",
        params={"epochs": 3},
        code=Code(commit="c" * 40, dirty_digest=None),
        config="{}",
        environment="python==3.11",
        inputs={"train": dataset},
    )


@pytest.fixture(scope="session")
def tumours() -> pa.Table:
    """scikit-learn's breast cancer set as a table of events, one an hour."""
    loaded = load_breast_cancer(as_frame=True)
    frame = loaded.frame.rename(columns=lambda name: name.replace(" ", "_"))
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
    start = datetime(2024, 1, 1, tzinfo=UTC)
    times = [start + timedelta(hours=hour) for hour in range(table.num_rows)]
    sizes = ["large" if radius > 14 else "small" for radius in table["mean_radius"].to_pylist()]
    table = table.append_column("seen_at", pa.array(times, pa.timestamp("us", tz="UTC")))
    return table.append_column("size", pa.array(sizes))


@pytest.fixture(scope="session")
def tumour_schema() -> TableSchema:
    return TableSchema(
        dataset="tumours",
        target="target",
        event_time="seen_at",
        min_rows=100,
        features=(
            Feature(name="mean_radius", kind="number", low=0, high=100),
            Feature(name="mean_texture", kind="number", low=0, high=100),
            Feature(name="worst_concavity", kind="number", low=0, high=10, max_missing=0.2),
            Feature(name="size", kind="category"),
        ),
    )


@pytest.fixture(scope="session")
def _empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's migrations take seconds: they are run once."""
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    mlflow_client(f"sqlite:///{path}")
    return path


@pytest.fixture
def mlflow_file(_empty_mlflow: Path, tmp_path: Path) -> Path:
    """A real MLflow store without runs, in SQLite."""
    return Path(shutil.copy(_empty_mlflow, tmp_path / "mlflow.db"))


@pytest.fixture
def mlflow_url(mlflow_file: Path) -> str:
    return f"sqlite:///{mlflow_file}"


@pytest.fixture(scope="session", autouse=True)
def _heeds_interrupts() -> None:
    """A shell starts its background jobs deaf to Ctrl-C, and so would be all they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _private_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the user's Ray token or RAY_ variables, nor leaves its own behind."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            patch.delenv(name)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("user")))
        # For clouds that take nodes back; it costs each training a process.
        patch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        # It would start a process for each processor at once, needed or not.
        patch.setenv("RAY_prestart_worker_first_driver", "0")
        # Else its workers, at 15, hardly run beside other tests.
        patch.setenv("RAY_worker_niceness", "0")
        # Replicas tell Serve's autoscaler every ten seconds what they have in work.
        patch.setenv("RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S", "0.5")
        yield


@pytest.fixture(autouse=True)
def _own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test keeps secret is not hidden from the output of the next."""
    monkeypatch.setattr(secret, "_known", set(secret._known))


@pytest.fixture(scope="session")
def _head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a Ray that all modules join: starting one takes 7 s of the processor."""
    home = tmp_path_factory.mktemp("head")
    up(None, home=home, num_cpus=4)
    yield home
    down(home)


@pytest.fixture(scope="module")
def ray_cluster(_head: Path) -> Iterator[Session]:
    """A Ray for modules that only need some cluster, and leave nothing there that others meet."""
    with connect(ClusterSettings(address="auto"), home=_head) as session:
        yield session


@pytest.fixture(scope="module")
def own_ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A private Ray, with which end the actors that outlive their drivers."""
    with connect(ClusterSettings(num_cpus=4), home=tmp_path_factory.mktemp("cluster")) as session:
        yield session
