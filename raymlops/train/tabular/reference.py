"""Simple models beside the network, so that its figures mean something."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raymlops.train.tabular.arrays import Arrays
from raymlops.train.tabular.quality import class_rates


def constant(arrays: Arrays) -> NDArray[np.float64]:
    """The training part's share of positives, or of each class, for every validation row."""
    if arrays.num_classes:
        rates = class_rates(arrays.train_labels, arrays.num_classes)
        return np.tile(rates, (len(arrays.validation), 1))
    return np.full(len(arrays.validation), float(arrays.train_labels.mean()))


def logistic_regression(arrays: Arrays) -> NDArray[np.float64]:
    """Probabilities [validation rows], or [validation rows, classes], of scikit-learn's logistic
    regression on the same rows."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=200)
    model.fit(arrays.train, arrays.train_labels)
    said: NDArray[np.float64] = model.predict_proba(arrays.validation)
    if not arrays.num_classes:
        return said[:, 1]
    probabilities = np.zeros((len(said), arrays.num_classes))
    probabilities[:, model.classes_] = said  # of those that occur in the training part
    return probabilities
