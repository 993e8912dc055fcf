"""How good what a model says is, on rows that it was not trained on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from raymlops.data.classes import class_losses

_NUM_BINS = 10


FIGURES = {
    "log_loss": "log loss",
    "roc_auc": "ROC AUC",
    "brier": "Brier",
    "calibration_error": "calibration error",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
}
"""What each figure of a quality is called."""


@dataclass(frozen=True, kw_only=True)
class Quality(ABC):
    """Point estimates over labelled rows."""

    @property
    @abstractmethod
    def loss(self) -> float:
        """What models are held against each other by; the lower the better."""

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class EventQuality(Quality):
    """That of probabilities; `roc_auc` is NaN when only one class occurs."""

    log_loss: float
    roc_auc: float
    brier: float
    calibration_error: float

    @property
    def loss(self) -> float:
        return self.log_loss


@dataclass(frozen=True, kw_only=True)
class ClassQuality(EventQuality):
    """The same of several classes: `roc_auc` is the mean of each against all others, NaN where one
    does not occur, `calibration_error` that of the class it says."""

    accuracy: float
    macro_f1: float


@dataclass(frozen=True, kw_only=True)
class NumberQuality(Quality):
    """That of numbers: root mean squared and mean absolute error in the unit of the label, and the
    share of its variance that they explain."""

    rmse: float
    mae: float
    r2: float

    @property
    def loss(self) -> float:
        return self.rmse


def judge(probabilities: NDArray[np.floating], labels: NDArray[np.number]) -> EventQuality:
    """The quality of `probabilities` [rows] of label 1, given 0/1 `labels` [rows]."""
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    probabilities = probabilities.astype(np.float64)
    has_both = 0 < labels.sum() < len(labels)
    return EventQuality(
        log_loss=float(log_loss(labels, probabilities, labels=[0, 1])),
        roc_auc=float(roc_auc_score(labels, probabilities)) if has_both else float("nan"),
        brier=float(brier_score_loss(labels, probabilities)),
        calibration_error=calibration_error(probabilities, labels),
    )


def judge_classes(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> ClassQuality:
    """The quality of `probabilities` [rows, classes], given the numbers `labels` [rows] of the
    classes that came true."""
    from sklearn.metrics import f1_score, roc_auc_score

    probabilities = probabilities.astype(np.float64)
    num_classes = probabilities.shape[1]
    is_true = labels[:, None] == np.arange(num_classes)
    right = probabilities.argmax(axis=1) == labels
    areas = [
        roc_auc_score(is_true[:, each], probabilities[:, each])
        for each in range(num_classes)
        if 0 < is_true[:, each].sum() < len(labels)
    ]
    return ClassQuality(
        log_loss=float(class_losses(probabilities, labels).mean()),
        roc_auc=float(np.mean(areas)) if len(areas) == num_classes else float("nan"),
        brier=float(((probabilities - is_true) ** 2).sum(axis=1).mean()),
        calibration_error=calibration_error(probabilities.max(axis=1), right),
        accuracy=float(right.mean()),
        macro_f1=float(f1_score(labels, probabilities.argmax(axis=1), average="macro")),
    )


def judge_numbers(said: NDArray[np.floating], labels: NDArray[np.number]) -> NumberQuality:
    """The quality of the numbers `said` [rows], given the `labels` [rows]."""
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    return NumberQuality(
        rmse=float(root_mean_squared_error(labels, said)),
        mae=float(mean_absolute_error(labels, said)),
        r2=float(r2_score(labels, said)),
    )


def class_rates(labels: NDArray[np.int64], num_classes: int) -> list[float]:
    """The share of each class among the numbers `labels` [rows]."""
    rates: list[float] = (np.bincount(labels, minlength=num_classes) / len(labels)).tolist()
    return rates


def constant_loss(labels: NDArray[np.int64], rates: list[float]) -> float:
    """The mean log loss of always saying `rates` [classes]."""
    return float(class_losses(np.tile(rates, (len(labels), 1)), labels).mean())


def calibration_error(probabilities: NDArray[np.floating], labels: NDArray[np.number]) -> float:
    """Expected calibration error: mean gap between predicted and observed share of label 1, over
    ten equally wide bins, weighted by rows (C. Guo et al., 2017, equation 3)."""
    bins = np.minimum((probabilities * _NUM_BINS).astype(np.int64), _NUM_BINS - 1)
    gaps = np.bincount(bins, weights=labels - probabilities, minlength=_NUM_BINS)
    return float(np.abs(gaps).sum() / len(labels))
