"""From what the model says to the answer: a decision and its probability, a number, an order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from raymlops.data.classes import Class, check_classes, plain_classes
from raymlops.errors import ModelError
from raymlops.models.signature import Field

PROBABILITY = "probability"
PROBABILITIES = "probabilities"

_THRESHOLD = 0.5
_SINGLE = np.dtype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Postprocessing:
    """A probability, and `label` = probability >= threshold; or `label` is the number it says; or,
    of several `classes`, the likeliest, beside its probability and those of all.

    A network says a logit, of which the probability is the sigmoid; a classifier of scikit-learn
    says the probabilities of both classes, [rows, 2], of which the second is meant. What a
    regression says is the answer, and so is what a ranking says, a `relevance` by which the rows of
    one request, the largest first, are put in order. With `classes`, names or whole numbers in the
    order of the model's columns, it says a logit or a probability for each of them, [rows,
    classes]. `threshold` is for a model that says one probability a row.
    """

    label: str
    threshold: float = _THRESHOLD
    reads: Literal["logit", "probability", "number", "relevance"] = "logit"
    classes: tuple[Class, ...] = ()

    def __post_init__(self) -> None:
        if self.reads not in ("logit", "probability", "number", "relevance"):
            raise ValueError(
                f"reads is {self.reads!r}, not 'logit', 'probability', 'number' or 'relevance'"
            )
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(f"threshold is {self.threshold}, not between 0 and 1")
        if len(self.classes):
            object.__setattr__(self, "classes", plain_classes(self.classes))
            self._check_classes()

    def _check_classes(self) -> None:
        check_classes(self.classes)
        if self.reads in ("number", "relevance"):
            raise ValueError(
                f"reads is '{self.reads}', and a number is of no class: leave classes out"
            )
        if self.threshold != _THRESHOLD:
            raise ValueError(
                f"threshold is {self.threshold}, but of {len(self.classes)} classes the likeliest "
                "is said: leave it out"
            )
        if self.label in (PROBABILITY, PROBABILITIES):
            raise ValueError(
                f"the label is called '{self.label}', as another output of the model is; give it "
                "another name"
            )

    @property
    def is_regression(self) -> bool:
        return self.reads == "number"

    @property
    def is_ranking(self) -> bool:
        return self.reads == "relevance"

    @property
    def _says_label(self) -> bool:
        """Whether the number that the model says is the answer."""
        return self.is_regression or self.is_ranking

    @property
    def score(self) -> str:
        """The output that is watched, and held against what came true."""
        if self.classes:
            return PROBABILITIES
        return self.label if self._says_label else PROBABILITY

    @property
    def outputs(self) -> tuple[Field, ...]:
        if self._says_label:
            return (Field(name=self.label, datatype="FP32", orders=self.is_ranking),)
        if not self.classes:
            return (
                Field(name=PROBABILITY, datatype="FP32"),
                Field(name=self.label, datatype="BOOL"),
            )
        are_texts = isinstance(self.classes[0], str)
        return (
            Field(
                name=self.label,
                datatype="BYTES" if are_texts else "INT64",
                classes=self.classes,
            ),
            Field(name=PROBABILITY, datatype="FP32"),
            Field(name=PROBABILITIES, datatype="FP32", shape=(len(self.classes),)),
        )

    def apply(self, scores: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The output fields, each [rows], of `scores` [rows] or, of two classes, [rows, 2]; with
        `classes`, of `scores` [rows, classes].

        Raises:
            ModelError: the model says something else.
        """
        if scores.dtype.itemsize < _SINGLE.itemsize:
            # Halves, of which numpy sums probabilities to 0.999.
            scores = scores.astype(_SINGLE)
        if self.classes:
            return self._classified(scores)
        if scores.ndim == 2 and scores.shape[1] == 2 and self.reads == "probability":
            scores = scores[:, 1]
        if scores.ndim != 1:
            raise ModelError(
                f"the model gives shape {list(scores.shape)}, not one {self.reads} a row"
                + (f": {self._way_out}" if scores.ndim == 2 else "")
            )
        if self._says_label:
            return {self.label: scores.astype(np.float32)}
        meant = expit(scores) if self.reads == "logit" else scores
        probability = meant.astype(np.float32)
        return {PROBABILITY: probability, self.label: probability >= self.threshold}

    @property
    def _way_out(self) -> str:
        """From several numbers a row where one is meant."""
        if self.is_regression:
            return "keep the one of its outputs that is meant"
        return "name its classes, in their order"

    def _classified(self, scores: NDArray[Any]) -> dict[str, NDArray[Any]]:
        if scores.ndim != 2 or scores.shape[1] != len(self.classes):
            raise ModelError(
                f"the model gives shape {list(scores.shape)}, not one {self.reads} a row for each "
                f"of {len(self.classes)} classes"
            )
        meant = softmax(scores, axis=1) if self.reads == "logit" else scores
        probabilities = meant.astype(np.float32)
        said = probabilities.argmax(axis=1)
        return {
            self.label: self._labels[said],
            PROBABILITY: probabilities[np.arange(len(said)), said],
            PROBABILITIES: probabilities,
        }

    @cached_property
    def _labels(self) -> NDArray[Any]:
        are_texts = isinstance(self.classes[0], str)
        return np.array(self.classes, dtype=object if are_texts else np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Without classes as it always was."""
        values = asdict(self)
        if not self.classes:
            del values["classes"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Postprocessing:
        return cls(**{**values, "classes": tuple(values.get("classes", ()))})
