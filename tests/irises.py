"""A model of three classes: which iris is it? Rows it has not seen, and its own answers to them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pyarrow as pa
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from raymlops.data import Class, Columns
from raymlops.models import Bundle, Postprocessing, format_named
from raymlops.models.artifact import Artifact
from raymlops.operate.own_models import bundle_of

SPECIES = ("setosa", "versicolor", "virginica")
NAMES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
MATRIX = load_iris().data.astype(np.float32)
TARGET = load_iris().target
UNSEEN = slice(1, None, 2)
"""The models are fitted on the rows between."""


def columns() -> Columns:
    return {name: MATRIX[UNSEEN, i].astype(np.float64) for i, name in enumerate(NAMES)}


def rows(classes: Sequence[Class] = SPECIES, *, label: str = "species") -> pa.Table:
    """What was not seen, with the class that came true."""
    return pa.table({**columns(), label: [classes[each] for each in TARGET[UNSEEN]]})


@cache
def fitted(inverse_penalty: float = 1.0) -> LogisticRegression:
    seen = slice(0, None, 2)
    return LogisticRegression(C=inverse_penalty, max_iter=500).fit(MATRIX[seen], TARGET[seen])


def saved(format: str = "onnx", *, inverse_penalty: float = 1.0) -> Artifact:
    return format_named(format).save(fitted(inverse_penalty), MATRIX[:20])


def probabilities(inverse_penalty: float = 1.0) -> np.ndarray:
    """What the model says of the rows, by its own library."""
    return np.asarray(fitted(inverse_penalty).predict_proba(MATRIX[UNSEEN]))


def bundle(classes: Sequence[Class] = SPECIES, *, inverse_penalty: float = 1.0) -> Bundle:
    postprocessing = Postprocessing(label="species", reads="probability", classes=tuple(classes))
    model = saved(inverse_penalty=inverse_penalty)
    return bundle_of(model, rows(classes), postprocessing, recorded=lambda _: False)
