"""An event: it happens or it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raymlops.data import Profile
from raymlops.models import Postprocessing
from raymlops.train.tabular.quality import Quality, judge
from raymlops.train.tabular.targets.base import Answers, Target

if TYPE_CHECKING:
    from raymlops.train.tabular.arrays import Arrays
    from raymlops.train.tabular.split import Split


def _constant(arrays: Arrays) -> NDArray[np.float64]:
    """The training part's share of positives."""
    return np.full(len(arrays.validation), float(arrays.train_labels.mean()))


def _logistic_regression(arrays: Arrays) -> NDArray[np.float64]:
    """That of scikit-learn."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=200).fit(arrays.train, arrays.train_labels)
    said: NDArray[np.float64] = model.predict_proba(arrays.validation)[:, 1]
    return said


@dataclass(frozen=True)
class Event(Target):
    """Labels are 0 and 1, as float32."""

    loss: ClassVar = "binary_cross_entropy"
    wanted: ClassVar = "both"
    simple_models: ClassVar = {
        "constant": _constant,
        "logistic regression": _logistic_regression,
    }
    has_threshold: ClassVar = True

    def read(self, column: pa.ChunkedArray, *, name: str) -> NDArray[Any]:
        labels: NDArray[Any] = column.cast(pa.float32()).to_numpy()
        return labels

    def judge(self, said: NDArray[Any], labels: NDArray[Any]) -> Quality:
        return judge(said, labels)

    def postprocessing(self, label: str, *, threshold: float) -> Postprocessing:
        return Postprocessing(label=label, threshold=threshold)

    def profile(self, split: Split, answers: Answers) -> Profile:
        arrays = split.arrays
        rate = float(arrays.train_labels.mean())
        return Profile.of(
            split.features,
            split.columns,
            answers.said,
            label_rate=rate,
            log_loss=answers.quality.loss,
        ).with_reliability(answers.unseen, arrays.validation_labels, threshold=answers.threshold)
