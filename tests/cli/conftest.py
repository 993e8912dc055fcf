"""A home with a model of tumours, made by the commands themselves."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.ledger import Code, Ledger
from raymlops.models import Postprocessing, Signature
from tests.cli.commands import CONFIG, run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tumours.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def table(tmp_path: Path, tumours: pa.Table) -> Path:
    path = tmp_path / "tumours.parquet"
    pq.write_table(tumours, path)
    return path


@pytest.fixture
def registered(home: Path, config: Path, table: Path) -> str:
    """Two versions of a model whose data was added; the run's id."""
    run("data", "add", table, config, "--home", home)
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        started = ledger.runs.start(
            kind="train",
            model="tumours",
            params={},
            code=Code(commit="c" * 40, dirty_digest=None),
            config="{}",
            environment="python",
            inputs={"train": ledger.datasets.get("tumours")},
        )
        ledger.runs.log(started.id, {"log_loss": 0.123456})
        signature = Signature(inputs=(), outputs=Postprocessing(label="benign").outputs).to_json()
        for _ in range(2):
            ledger.registry.register("tumours", bundle="b", signature=signature, run_id=started.id)
    return started.id
