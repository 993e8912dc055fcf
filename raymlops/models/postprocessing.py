"""From a network's logit to the answer: a probability and a decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from raymlops.models.signature import Field

PROBABILITY = "probability"


@dataclass(frozen=True, kw_only=True)
class Postprocessing:
    """probability = sigmoid(logit), and `label` = probability >= threshold."""

    label: str
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(f"threshold is {self.threshold}, not between 0 and 1")

    @property
    def outputs(self) -> tuple[Field, ...]:
        return (
            Field(name=PROBABILITY, datatype="FP32"),
            Field(name=self.label, datatype="BOOL"),
        )

    def apply(self, logits: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """The output fields, each [rows], of `logits` [rows]."""
        probability = expit(logits).astype(np.float32)
        return {PROBABILITY: probability, self.label: probability >= self.threshold}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Postprocessing:
        return cls(**values)
