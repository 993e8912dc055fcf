"""Small models for tests: a logistic regression on tumours, right or exactly wrong."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from sklearn.linear_model import LogisticRegression

from raymlops.data import Profile, TableSchema, read_columns
from raymlops.models import PROBABILITY, Bundle, Postprocessing, Preprocessing, Signature, export


class Linear(torch.nn.Module):
    def __init__(self, weights: np.ndarray, bias: float) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(torch.from_numpy(weights.astype(np.float32)))
        self.bias = bias

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows @ self.weights + self.bias


def bundle_of(table: pa.Table, schema: TableSchema, *, inverted: bool) -> Bundle:
    """Fitted on `table`; with `inverted` on labels turned round."""
    columns, labels = read_columns(table, schema.features), table["target"].to_numpy()
    preprocessing = Preprocessing.fit(schema.features, columns)
    matrix = preprocessing.transform(columns)
    fitted = LogisticRegression(C=0.05).fit(matrix, 1 - labels if inverted else labels)
    module = Linear(fitted.coef_[0], float(fitted.intercept_[0]))
    postprocessing = Postprocessing(label=schema.target)
    model = export(module, matrix[:16])
    unprofiled = Profile.of(
        schema.features, columns, np.zeros(len(labels), np.float32), label_rate=0.63, log_loss=0.2
    )
    parts = {
        "signature": Signature.of(schema, postprocessing.outputs),
        "preprocessing": preprocessing,
        "model": model,
        "postprocessing": postprocessing,
    }
    scores = Bundle.of(**parts, profile=unprofiled).predict(columns)[PROBABILITY]
    profile = Profile.of(schema.features, columns, scores, label_rate=0.63, log_loss=0.2)
    return Bundle.of(**parts, profile=profile)
