"""From what the model says to the answer: a probability and a decision, or a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from raymlops.errors import ModelError
from raymlops.models.signature import Field

PROBABILITY = "probability"


@dataclass(frozen=True, kw_only=True)
class Postprocessing:
    """A probability, and `label` = probability >= threshold; or `label` is the number it says.

    A network says a logit, of which the probability is the sigmoid; a classifier of scikit-learn
    says the probabilities of both classes, [rows, 2], of which the second is meant. What a
    regression says is the answer, and `threshold` means nothing.
    """

    label: str
    threshold: float = 0.5
    reads: Literal["logit", "probability", "number"] = "logit"

    def __post_init__(self) -> None:
        if self.reads not in ("logit", "probability", "number"):
            raise ValueError(f"reads is {self.reads!r}, not 'logit', 'probability' or 'number'")
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(f"threshold is {self.threshold}, not between 0 and 1")

    @property
    def is_regression(self) -> bool:
        return self.reads == "number"

    @property
    def score(self) -> str:
        """The output that is watched, and held against what came true."""
        return self.label if self.is_regression else PROBABILITY

    @property
    def outputs(self) -> tuple[Field, ...]:
        if self.is_regression:
            return (Field(name=self.label, datatype="FP32"),)
        return (
            Field(name=PROBABILITY, datatype="FP32"),
            Field(name=self.label, datatype="BOOL"),
        )

    def apply(self, scores: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The output fields, each [rows], of `scores` [rows] or, of two classes, [rows, 2].

        Raises:
            ModelError: the model says something else.
        """
        if scores.ndim == 2 and scores.shape[1] == 2 and self.reads == "probability":
            scores = scores[:, 1]
        if scores.ndim != 1:
            raise ModelError(
                f"the model gives shape {list(scores.shape)}, not one {self.reads} a row"
            )
        if self.is_regression:
            return {self.label: scores.astype(np.float32)}
        meant = expit(scores) if self.reads == "logit" else scores
        probability = meant.astype(np.float32)
        return {PROBABILITY: probability, self.label: probability >= self.threshold}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Postprocessing:
        return cls(**values)
