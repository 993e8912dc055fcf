"""A real model in three versions: is a tumour benign? Registered in a ledger of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from raymlops.data import Columns, Feature, Profile, TableSchema, take
from raymlops.ledger import Ledger
from raymlops.models import Bundle, Postprocessing, Preprocessing, Signature, export
from raymlops.storage import Store
from tests.runs import start_training

MODEL = "tumours"
VERSIONS = ("1.0.0", "1.0.1", "1.0.2")

FEATURES = (
    Feature(name="radius", kind="number", low=0.0, high=100.0),
    Feature(name="texture", kind="number", max_missing=0.1),
    Feature(name="smoothness", kind="number"),
    Feature(name="size", kind="category", max_missing=0.1),
)


@dataclass(frozen=True)
class World:
    """A ledger and a store that hold the versions, and rows to ask them about."""

    ledger_url: str
    store_uri: str
    bundles: dict[str, Bundle]
    columns: Columns

    def rows(self, start: int, stop: int) -> Columns:
        return take(self.columns, slice(start, stop))


def read_columns() -> tuple[Columns, np.ndarray]:
    data = load_breast_cancer()
    column = {name: data.data[:, i] for i, name in enumerate(data.feature_names)}
    radius, texture = column["mean radius"], column["mean texture"].copy()
    texture[::50] = np.nan
    columns = {
        "radius": radius,
        "texture": texture,
        "smoothness": column["mean smoothness"],
        "size": np.array(["small", "large"], dtype=object)[(radius > 14).astype(int)],
    }
    return columns, data.target


@pytest.fixture(scope="session")
def bundles() -> dict[str, Bundle]:
    return make_bundles()


def make_bundles() -> dict[str, Bundle]:
    columns, target = read_columns()
    return {
        version: _train(columns, target, inverse_penalty)
        for version, inverse_penalty in zip(VERSIONS, (1.0, 0.01, 0.0001), strict=True)
    }


@pytest.fixture
def world(bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> World:
    """A fresh ledger each time, whose champion is 1.0.0."""
    return make_world(bundles, tmp_path_factory.mktemp("world"))


def make_world(bundles: dict[str, Bundle], folder: Path) -> World:
    url, uri = f"sqlite:///{folder}/ledger.db", str(folder / "store")
    with Ledger(url) as ledger:
        for bundle in bundles.values():
            register(ledger, Store(uri), MODEL, bundle)
        version = ledger.registry.list(MODEL)[0].version
        ledger.registry.move(MODEL, "champion", version, who="test", why="first", evidence={})
    return World(url, uri, bundles, read_columns()[0])


class _Logits(torch.nn.Module):
    def __init__(self, weights: np.ndarray, bias: float) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(len(weights), 1)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor(weights[None, :], dtype=torch.float32))
            self.linear.bias.fill_(bias)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(rows).squeeze(1)


def _train(columns: Columns, target: np.ndarray, inverse_penalty: float) -> Bundle:
    schema = TableSchema(dataset=MODEL, target="benign", event_time="at", features=FEATURES)
    return train(schema, columns, target, inverse_penalty)


def train(
    schema: TableSchema, columns: Columns, target: np.ndarray, inverse_penalty: float
) -> Bundle:
    """A logistic regression that answers with its target's name."""
    preprocessing = Preprocessing.fit(schema.features, columns)
    matrix = preprocessing.transform(columns)
    regression = LogisticRegression(C=inverse_penalty).fit(matrix, target)
    module = _Logits(regression.coef_[0], float(regression.intercept_[0]))
    scores = regression.predict_proba(matrix)[:, 1].astype(np.float32)
    postprocessing = Postprocessing(label=schema.target)
    return Bundle.of(
        signature=Signature.of(schema, postprocessing.outputs),
        preprocessing=preprocessing,
        model=export(module, matrix[:32]),
        postprocessing=postprocessing,
        profile=Profile.of(schema.features, columns, scores, label_rate=0.6, log_loss=0.1),
    )


def register(ledger: Ledger, store: Store, model: str, bundle: Bundle) -> None:
    run = start_training(ledger, model)
    ledger.runs.finish(run.id)
    signature = bundle.signature.to_json()
    ledger.registry.register(model, bundle=bundle.save(store), signature=signature, run_id=run.id)
