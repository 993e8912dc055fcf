"""One of several classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raymlops.data import Class, Profile, class_numbers, read_classes
from raymlops.models import Postprocessing
from raymlops.train.tabular.quality import Quality, class_rates, judge_classes
from raymlops.train.tabular.targets.base import Answers, Target

if TYPE_CHECKING:
    from raymlops.train.tabular.arrays import Arrays
    from raymlops.train.tabular.split import Split


def _constant(arrays: Arrays) -> NDArray[np.float64]:
    """The training part's share of each class."""
    rates = class_rates(arrays.train_labels, arrays.target.num_classes)
    return np.tile(rates, (len(arrays.validation), 1))


def _logistic_regression(arrays: Arrays) -> NDArray[np.float64]:
    """That of scikit-learn."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=200).fit(arrays.train, arrays.train_labels)
    probabilities = np.zeros((len(arrays.validation), arrays.target.num_classes))
    # Of those that occur in the training part.
    probabilities[:, model.classes_] = model.predict_proba(arrays.validation)
    return probabilities


@dataclass(frozen=True)
class Classes(Target):
    """Labels are the number of one of these, in their order, as int64."""

    classes: tuple[Class, ...]

    loss: ClassVar = "cross_entropy"
    wanted: ClassVar = "two or more"
    simple_models: ClassVar = {
        "constant": _constant,
        "logistic regression": _logistic_regression,
    }

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def read(self, column: pa.ChunkedArray, *, name: str) -> NDArray[Any]:
        return class_numbers(read_classes(column, self.classes[0], name=name), self.classes)

    def judge(self, said: NDArray[Any], labels: NDArray[Any]) -> Quality:
        return judge_classes(said, labels)

    def postprocessing(self, label: str, *, threshold: float) -> Postprocessing:
        return Postprocessing(label=label, threshold=threshold, classes=self.classes)

    def profile(self, split: Split, answers: Answers) -> Profile:
        arrays = split.arrays
        rates = class_rates(arrays.train_labels, self.num_classes)
        return Profile.of_classes(
            split.features,
            split.columns,
            answers.said,
            self.classes,
            class_rates=rates,
            log_loss=answers.quality.loss,
        ).with_certainty(answers.unseen, arrays.validation_labels)
