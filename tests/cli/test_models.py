from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from raymlops.errors import IntegrityError, ModelError, UntrustedError
from raymlops.ledger import Ledger, ModelVersion, Run
from raymlops.models import load_model
from raymlops.operate import Workspace
from raymlops.storage import Store
from tests.cli.commands import run, run_json
from tests.operate.bundles import bundle_of


@pytest.fixture
def wine(tmp_path: Path) -> tuple[Path, Path]:
    """A pickled model and real rows."""
    rows, target = load_wine(return_X_y=True, as_frame=True)
    rows = rows.astype(np.float32)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows.to_numpy(), target)
    (tmp_path / "wine.pkl").write_bytes(pickle.dumps(model))
    rows.to_parquet(tmp_path / "rows.parquet")
    return tmp_path / "wine.pkl", tmp_path / "rows.parquet"


def test_a_file_is_inspected_and_not_run(home: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "it-ran"),)

    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(Bomb()))
    found = run_json("models", "inspect", path, "--home", home)
    assert found["facts"]["imports"] == ["posix.mkdir"]
    assert found["doubt"] == "loading it can run any code"
    assert "posix.mkdir" in run("models", "inspect", path, "--home", home)
    with pytest.raises(UntrustedError, match="`raymlops models trust FILE --why REASON`"):
        run("models", "verify", path, "--home", home)
    assert not (tmp_path / "it-ran").exists()


def test_a_trusted_file_is_converted(home: Path, wine: tuple[Path, Path], tmp_path: Path) -> None:
    source, rows = wine
    target = tmp_path / "wine.onnx"
    convert = ("models", "convert", source, target, "--sample", rows, "--home", home)
    with pytest.raises(UntrustedError):
        run(*convert)
    assert not target.exists()
    run("models", "trust", source, "--why", "fitted by me", "--home", home)
    written = run_json(*convert)
    assert (written["format"], written["doubt"]) == ("onnx", None)
    assert [tensor["shape"] for tensor in written["facts"]["inputs"]] == [[None, 13]]
    matrix = pd.read_parquet(rows).to_numpy(np.float32)
    np.testing.assert_allclose(
        load_model(target)(matrix),
        pickle.loads(source.read_bytes()).predict_proba(matrix),
        atol=1e-5,
    )
    with pytest.raises(ModelError, match="exists; models are never overwritten"):
        run(*convert)
    assert trusted_because(home) == ["fitted by me"]


def test_trust_is_in_the_bytes_and_not_in_the_name(home: Path, wine: tuple[Path, Path]) -> None:
    source, rows = wine
    trusted = run_json("models", "trust", source, "--why", "fitted by me", "--home", home)
    assert trusted["why"] == "fitted by me"
    asked = run_json("models", "verify", source, "--sample", rows, "--home", home)
    assert (asked["recorded"], asked["num_rows"], asked["output_shape"]) == (True, 178, [3])
    source.write_bytes(source.read_bytes() + b"\0")
    with pytest.raises(UntrustedError):
        run("models", "verify", source, "--home", home)
    with pytest.raises(IntegrityError, match=r"has digest .*, not 000"):
        run("models", "verify", source, "--digest", "0" * 64, "--home", home)


def test_what_conversion_writes_is_trusted_because_its_source_was(
    home: Path, wine: tuple[Path, Path], tmp_path: Path
) -> None:
    source, rows = wine
    run("models", "trust", source, "--why", "fitted by me", "--home", home)
    target = tmp_path / "wine.joblib"
    run("models", "convert", source, target, "--sample", rows, "--home", home)
    assert run_json("models", "verify", target, "--home", home)["recorded"] is True
    first, second = trusted_because(home)
    assert first == "fitted by me"
    assert second.startswith("converted from pickle ")
    with pytest.raises(ModelError, match="give real rows to compare on: --sample"):
        run("models", "convert", source, tmp_path / "wine.onnx", "--home", home)


def trusted_because(home: Path) -> list[str]:
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        return [decision.why for decision in ledger.decisions.list(kind="trust")]


@pytest.fixture
def registered(home: Path, tumours: Any, tumour_schema: Any) -> ModelVersion:
    with Workspace.open(overrides=[f"home={home}"]) as workspace:
        ledger, store = workspace.ledger, workspace.store
        return _register(ledger, store, tumours, tumour_schema)


def _register(ledger: Ledger, store: Store, tumours: Any, tumour_schema: Any) -> ModelVersion:
    from raymlops.ledger import Code

    bundle = bundle_of(tumours, tumour_schema, inverted=False).with_answers()
    started: Run = ledger.runs.start(
        kind="train", model="tumours", params={}, code=Code(commit="c" * 40, dirty_digest=None),
        config="{}", environment="python", inputs={},
    )  # fmt: skip
    signature = json.dumps(bundle.signature.to_dict())
    return ledger.registry.register(
        "tumours", bundle=bundle.save(store), signature=signature, run_id=started.id
    )


def test_a_version_is_inspected_verified_and_converted(
    home: Path, registered: ModelVersion, tmp_path: Path
) -> None:
    found = run_json("models", "inspect", "tumours@1.0.0", "--home", home)
    assert (found["format"], found["facts"]["num_parameters"]) == ("onnx", 7)
    asked = run_json("models", "verify", "tumours@1.0.0", "--home", home)
    assert (asked["num_answers"], asked["num_rows"]) == (8, 32)
    assert asked["digest"] == registered.bundle
    assert "8 rows" in run("models", "verify", "tumours@1.0.0", "--home", home)
    with pytest.raises(ModelError, match="onnx cannot become pmml"):
        run("models", "convert", "tumours@1.0.0", tmp_path / "t.pmml", "--home", home)


def test_a_version_whose_bytes_changed_is_refused(home: Path, registered: ModelVersion) -> None:
    store = Store(str(home / "store"))
    blob = store.tree(registered.bundle)["model.onnx"]
    path = home / "store" / "blobs" / blob[:2] / blob
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(IntegrityError):
        run("models", "verify", "tumours@1.0.0", "--home", home)
