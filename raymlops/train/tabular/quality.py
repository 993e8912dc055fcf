"""How good probabilities are: log loss, ROC AUC, Brier score, calibration error."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

_NUM_BINS = 10


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Point estimates over labelled rows; `roc_auc` is NaN when only one class occurs."""

    log_loss: float
    roc_auc: float
    brier: float
    calibration_error: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def judge(probabilities: NDArray[np.floating], labels: NDArray[np.number]) -> Quality:
    """The quality of `probabilities` [rows] of label 1, given 0/1 `labels` [rows]."""
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    probabilities = probabilities.astype(np.float64)
    has_both = 0 < labels.sum() < len(labels)
    return Quality(
        log_loss=float(log_loss(labels, probabilities, labels=[0, 1])),
        roc_auc=float(roc_auc_score(labels, probabilities)) if has_both else float("nan"),
        brier=float(brier_score_loss(labels, probabilities)),
        calibration_error=calibration_error(probabilities, labels),
    )


def calibration_error(probabilities: NDArray[np.floating], labels: NDArray[np.number]) -> float:
    """Expected calibration error: mean gap between predicted and observed share of label 1, over
    ten equally wide bins, weighted by rows (C. Guo et al., 2017, equation 3)."""
    bins = np.minimum((probabilities * _NUM_BINS).astype(np.int64), _NUM_BINS - 1)
    gaps = np.bincount(bins, weights=labels - probabilities, minlength=_NUM_BINS)
    return float(np.abs(gaps).sum() / len(labels))
