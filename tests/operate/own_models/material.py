"""Models of scikit-learn's data, fitted on every other row, and the rows between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from raymlops.models import (
    Bundle,
    Postprocessing,
    format_named,
)
from raymlops.operate import Workspace

TUMOURS, DIABETES, WINE = load_breast_cancer(), load_diabetes(), load_wine()
BENIGN = Postprocessing(label="label", reads="probability")
NUMBER = Postprocessing(label="label", reads="number")


def matrix(data: Any) -> np.ndarray:
    return data.data.astype(np.float32)


def unseen(data: Any, *, target: str = "label") -> pa.Table:
    """Every other row: the models below are fitted on those between."""
    values = matrix(data)[1::2]
    columns = {f"x{i}": values[:, i] for i in range(values.shape[1])}
    return pa.table({**columns, target: data.target[1::2]})


def fitted(data: Any, kind: Any) -> Any:
    return kind(n_estimators=10, random_state=0).fit(matrix(data)[::2], data.target[::2])


def saved(model: Any, data: Any, format: str = "onnx") -> Any:
    return format_named(format).save(model, matrix(data)[:20])


def said(workspace: Workspace, reference: str, rows: pa.Table) -> dict[str, np.ndarray]:
    version = workspace.ledger.registry.resolve(reference)
    columns = {name: rows[name].to_numpy() for name in rows.column_names if name != "label"}
    return Bundle.of_version(workspace.store, version).predict(columns)
