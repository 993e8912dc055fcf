"""What can record, and which rows may be replayed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Literal, TypeAlias

import torch

Form: TypeAlias = tuple[tuple[tuple[int, ...], torch.dtype], ...]
"""The shape and type of each tensor that a pass reads."""

# A full batch in pieces has two forms, which differ by a row; each recording holds memory.
_MOST_FORMS = 4


class Recorder(ABC):
    """Remembers what is done to tensors that stay where they are, and does it again."""

    @abstractmethod
    def record(self, run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """What does again all that `run` does, reading where it read and writing where it wrote.

        The result is written to the same memory each time. `run` may be called several times, or
        its operations be noted and not done: what it changes is the caller's to put right.

        Raises:
            TrainingError: something in it cannot be recorded.
        """


def form_of(tensors: tuple[torch.Tensor, ...]) -> Form:
    return tuple((tuple(tensor.shape), tensor.dtype) for tensor in tensors)


def decide(
    form: Form, recorded: Collection[Form], *, full: bool, counts: bool
) -> Literal["run", "record", "replay"]:
    """What to do with rows of this form, `full` if they are of a full batch.

    An epoch's short last batch comes once an epoch, in forms of its own: it is run. So are rows
    that only stand in, and forms beyond what there is memory for.
    """
    if not full or not counts:
        return "run"
    if form in recorded:
        return "replay"
    return "record" if len(recorded) < _MOST_FORMS else "run"
