"""Simple models beside the network, so that its figures mean something."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raymlops.train.tabular.arrays import Arrays


def constant(arrays: Arrays) -> NDArray[np.float64]:
    """The training part's share of positives, for every validation row."""
    return np.full(len(arrays.validation), float(arrays.train_labels.mean()))


def logistic_regression(arrays: Arrays) -> NDArray[np.float64]:
    """Probabilities [validation rows] of scikit-learn's logistic regression on the same rows."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=200)
    model.fit(arrays.train, arrays.train_labels)
    probabilities: NDArray[np.float64] = model.predict_proba(arrays.validation)[:, 1]
    return probabilities
