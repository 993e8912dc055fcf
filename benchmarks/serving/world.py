"""The model everybody serves: a small MLP on scikit-learn's wines, one row a request.

In the folder: a ledger and a store for us, model.onnx and model.json for the peers, bodies.json
with every row as a request of the Open Inference Protocol and the answer in-process ONNX Runtime
gives to it.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_wine
from sklearn.neural_network import MLPClassifier

from benchmarks.serving.places import MODEL, ledger_url, store_uri
from raymlops.data import Feature, Profile, TableSchema
from raymlops.ledger import Code, Ledger
from raymlops.models import PROBABILITY, Bundle, Postprocessing, Preprocessing, Signature, export
from raymlops.models.preprocessing import NumberEncoding
from raymlops.serve import TrafficTable
from raymlops.storage import Store


def make_world(folder: Path, *, num_rows: int = 1) -> None:
    """Args:
    num_rows: of each request, which begins with the row whose answer is checked.
    """
    data = load_wine()
    columns = read_columns()
    names = list(columns)
    bundle = make_bundle()
    (folder / "model.onnx").write_bytes(bundle.model)
    encodings = bundle.preprocessing.encodings
    numbers = [each for each in encodings if isinstance(each, NumberEncoding)]
    scale = {
        "names": names,
        "mean": [each.mean for each in numbers],
        "std": [each.std for each in numbers],
    }
    (folder / "model.json").write_text(json.dumps(scale))
    answers = bundle.predict(columns)[PROBABILITY].tolist()
    bodies = [
        _body(names, _rows_from(data.data, number, num_rows), str(number))
        for number in range(len(data.data))
    ]
    (folder / "bodies.json").write_text(json.dumps({"bodies": bodies, "answers": answers}))
    # For wrk: a body a line, then its answer.
    lines = [f"{body}\n{answer!r}\n" for body, answer in zip(bodies, answers, strict=True)]
    (folder / "bodies.txt").write_text("".join(lines))
    # Triton has no tensors without an axis beside the batch's.
    wide = (line.replace(f'"shape":[{num_rows}]', f'"shape":[{num_rows},1]') for line in lines)
    (folder / "bodies_2d.txt").write_text("".join(wide))
    register(folder, MODEL, bundle)


def read_columns() -> dict[str, NDArray[np.float64]]:
    data = load_wine()
    names = [name.replace("/", "_") for name in data.feature_names]
    return dict(zip(names, data.data.T, strict=True))


def _rows_from(matrix: NDArray[np.float64], start: int, num_rows: int) -> NDArray[np.float64]:
    return matrix[np.arange(start, start + num_rows) % len(matrix)]


def _body(names: list[str], rows: NDArray[np.float64], request_id: str) -> str:
    inputs = [
        {"name": name, "shape": [len(rows)], "datatype": "FP64", "data": column.tolist()}
        for name, column in zip(names, rows.T, strict=True)
    ]
    return json.dumps({"id": request_id, "inputs": inputs}, separators=(",", ":"))


class _Network(torch.nn.Module):
    def __init__(self, fitted: MLPClassifier) -> None:
        super().__init__()
        sizes = [len(fitted.coefs_[0]), *(len(bias) for bias in fitted.intercepts_)]
        layers = [torch.nn.Linear(a, b) for a, b in pairwise(sizes)]
        for layer, weights, bias in zip(layers, fitted.coefs_, fitted.intercepts_, strict=True):
            with torch.no_grad():
                layer.weight.copy_(torch.tensor(weights.T))
                layer.bias.copy_(torch.tensor(bias))
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            rows = torch.relu(layer(rows))
        return self.layers[-1](rows).squeeze(1)


def make_bundle(*, seed: int = 7) -> Bundle:
    columns, target = read_columns(), (load_wine().target == 0).astype(int)
    features = tuple(Feature(name=name, kind="number", low=0.0, high=1e4) for name in columns)
    preprocessing = Preprocessing.fit(features, columns)
    matrix = preprocessing.transform(columns)
    fitted = MLPClassifier((64, 32), max_iter=300, random_state=seed).fit(matrix, target)
    scores = fitted.predict_proba(matrix)[:, 1].astype(np.float32)
    schema = TableSchema(dataset=MODEL, target="first", event_time="at", features=features)
    postprocessing = Postprocessing(label="first")
    return Bundle.of(
        signature=Signature.of(schema, postprocessing.outputs),
        preprocessing=preprocessing,
        model=export(_Network(fitted), matrix[:32]),
        postprocessing=postprocessing,
        profile=Profile.of(features, columns, scores, label_rate=0.33, log_loss=0.1),
    )


def register(folder: Path, model: str, bundle: Bundle) -> None:
    with Ledger(ledger_url(folder)) as ledger:
        run = ledger.runs.start(
            kind="train",
            model=model,
            params={},
            code=Code(commit="0" * 40, dirty_digest=None),
            config="",
            environment="",
            inputs={},
        )
        ledger.runs.finish(run.id)
        digest = bundle.save(Store(store_uri(folder)))
        added = ledger.registry.register(model, bundle=digest, signature="{}", run_id=run.id)
        ledger.registry.move(model, "champion", added.version, who="b", why="b", evidence={})
        ledger.releases.publish(model, TrafficTable.champion(model, str(added.version)).to_dict())
