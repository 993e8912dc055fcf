"""The contract of a target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
from numpy.typing import NDArray

from raymlops.data import Profile
from raymlops.models import Postprocessing
from raymlops.train.tabular.quality import Quality

if TYPE_CHECKING:
    from raymlops.train.tabular.arrays import Arrays
    from raymlops.train.tabular.network import Perceptron
    from raymlops.train.tabular.split import Split

SimpleModel = Callable[["Arrays"], NDArray[Any]]
"""What a simple model that was fitted on the training part says of the validation part."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a finished network says of all rows, and of the validation part, which it has not seen;
    how good that is, and from which probability on it says yes."""

    said: NDArray[Any]
    unseen: NDArray[Any]
    quality: Quality
    threshold: float


class Target(ABC):
    """How labels are read and learned, and what comes of the network that learned them.

    `said` is always what the model answers: the probability [rows] of an event, those of all
    classes [rows, classes], or a number [rows].
    """

    loss: ClassVar[str]
    """By which the network learns, as a spec names it."""
    output: ClassVar[str] = "logits"
    """What the network puts out, as its file names it."""
    of_values: ClassVar[str] = "classes"
    """What different labels are, in words, and `wanted` how many of them each part needs."""
    wanted: ClassVar[str]
    simple_models: ClassVar[Mapping[str, SimpleModel]]
    """What the network is held against, by name."""
    has_threshold: ClassVar[bool] = False
    """Whether the answer is yes from a probability on."""

    @property
    def num_classes(self) -> int:
        """For each of which the network has a logit; 0 where it has one output a row."""
        return 0

    @abstractmethod
    def read(self, column: pa.ChunkedArray, *, name: str) -> NDArray[Any]:
        """The labels [rows] in a column that keeps the rules of its table."""

    def out_of_reach(self, labels: NDArray[Any]) -> str | None:
        """Why no answer could tell `labels` apart, which differ; None where one could."""
        return None

    def learned(self, labels: NDArray[Any], arrays: Arrays) -> NDArray[Any]:
        """`labels` as the network is shown them."""
        return labels

    def finished(self, network: Perceptron, arrays: Arrays) -> Perceptron:
        """The network that was trained on what is `learned`, saying what is meant."""
        return network

    @abstractmethod
    def judge(self, said: NDArray[Any], labels: NDArray[Any]) -> Quality:
        """How good that is."""

    @abstractmethod
    def postprocessing(self, label: str, *, threshold: float) -> Postprocessing:
        """From what the network puts out to the answer."""

    @abstractmethod
    def profile(self, split: Split, answers: Answers) -> Profile:
        """The reference that what a model says later is held against."""
