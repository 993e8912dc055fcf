"""A number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raymlops.data import Profile
from raymlops.models import Postprocessing
from raymlops.train.tabular.quality import Quality, judge_numbers
from raymlops.train.tabular.targets.base import Answers, Target

if TYPE_CHECKING:
    from raymlops.train.tabular.arrays import Arrays
    from raymlops.train.tabular.network import Perceptron
    from raymlops.train.tabular.split import Split

_MOST_APART = 0.1
"""What rounding may be of a deviation: the RMSE that it costs is 0.03 of it, R² 0.001."""


def _constant(arrays: Arrays) -> NDArray[np.float64]:
    """The training part's mean."""
    return np.full(len(arrays.validation), arrays.train_labels.mean())


def _linear_regression(arrays: Arrays) -> NDArray[np.float64]:
    """Ridge regression of scikit-learn: columns of categories add up to one, so that without any
    penalty there is no one solution."""
    from sklearn.linear_model import Ridge

    model = Ridge().fit(arrays.train.astype(np.float64), arrays.train_labels)
    said: NDArray[np.float64] = model.predict(arrays.validation.astype(np.float64))
    return said


@dataclass(frozen=True)
class Number(Target):
    """Labels are float64, in their own unit. The network learns them with the mean and deviation
    of the training part taken out, which its last layer then puts back."""

    loss: ClassVar = "mse"
    output: ClassVar = "prediction"
    of_values: ClassVar = "values"
    wanted: ClassVar = "two or more"
    simple_models: ClassVar = {"constant": _constant, "linear regression": _linear_regression}

    def read(self, column: pa.ChunkedArray, *, name: str) -> NDArray[Any]:
        labels: NDArray[Any] = column.cast(pa.float64()).to_numpy()
        return labels

    def out_of_reach(self, labels: NDArray[Any]) -> str | None:
        mean, deviation = float(labels.mean()), float(labels.std())
        apart = float(np.spacing(np.float32(abs(mean))))
        if apart <= _MOST_APART * deviation:
            return None
        return (
            f"it is {mean:.6g} on average, with a deviation of {deviation:.3g}, and an answer is "
            f"float32, whose values are {apart:.3g} apart there; subtract a constant before"
        )

    def learned(self, labels: NDArray[Any], arrays: Arrays) -> NDArray[Any]:
        mean, deviation = _scale(arrays)
        return ((labels - mean) / deviation).astype(np.float32)

    def finished(self, network: Perceptron, arrays: Arrays) -> Perceptron:
        mean, deviation = _scale(arrays)
        network.rescale(factor=deviation, offset=mean)
        return network

    def judge(self, said: NDArray[Any], labels: NDArray[Any]) -> Quality:
        return judge_numbers(said, labels)

    def postprocessing(self, label: str, *, threshold: float) -> Postprocessing:
        return Postprocessing(label=label, reads="number")

    def profile(self, split: Split, answers: Answers) -> Profile:
        arrays = split.arrays
        return Profile.of_numbers(
            split.features,
            split.columns,
            answers.said,
            label_mean=float(arrays.train_labels.mean()),
            errors=answers.unseen - arrays.validation_labels,
        )


def _scale(arrays: Arrays) -> tuple[float, float]:
    """The mean and deviation of the labels in the training part."""
    return float(arrays.train_labels.mean()), float(arrays.train_labels.std())
