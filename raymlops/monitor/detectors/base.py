"""What all detectors of concept drift have in common.

A detector watches the errors a model makes, in the order in which they become known, and says
when they became more than they were. It holds nothing but a few numbers, which can be taken out as
plain values and put into another one, so that it goes on where a process has died.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]
State = Mapping[str, Any]
"""What a detector remembers: strings, numbers, None and lists of these, as JSON knows them."""

Memory = TypeVar("Memory")
"""The dataclass in which a member remembers."""

_BLOCK = 1024  # labels: after an alarm the rest of a block is looked at again


class Detector(ABC, Generic[Memory]):
    """Watches a stream of errors. A member tells how it starts and how it goes on.

    After each alarm a detector starts anew: it has no memory of what came before.
    """

    kind: ClassVar[str]
    bounds: ClassVar[tuple[float, float]] = (-np.inf, np.inf)
    """The smallest and the largest error it understands."""

    def __init__(self) -> None:
        self._memory: Memory = self._fresh()

    def feed(self, errors: ArrayLike) -> tuple[int, ...]:
        """Takes the next `errors` [labels], and returns the indices at which it raised an alarm.

        How a stream is cut into calls makes no difference, to the last bit.

        Raises:
            ValueError: an error is no number, or outside `bounds`; none was taken.
        """
        values = self._checked(errors)
        alarms: list[int] = []
        start = 0
        while start < len(values):
            block = values[start : start + _BLOCK]
            found = self._advance(block)
            if found is None:
                start += len(block)
            else:
                alarms.append(start + found)
                start += found + 1
                self._memory = self._fresh()
        return tuple(alarms)

    def state(self) -> dict[str, Any]:
        """Everything it remembers, for `restore` of a detector with the same parameters."""
        memory: Any = self._memory  # a dataclass, which no type variable can be bound to
        return {"kind": self.kind, **asdict(memory)}

    def restore(self, state: State) -> None:
        """Goes on as the detector whose `state` this was.

        Raises:
            ValueError: it is the state of another kind of detector.
        """
        if state["kind"] != self.kind:
            raise ValueError(f"this is the state of '{state['kind']}', not of '{self.kind}'")
        values = {name: value for name, value in state.items() if name != "kind"}
        self._memory = type(self._memory)(**values)

    @abstractmethod
    def _fresh(self) -> Memory:
        """What it remembers before the first error."""

    @abstractmethod
    def _advance(self, values: Values) -> int | None:
        """Takes values up to the first alarm, and returns its index; None when there is none."""

    def _checked(self, errors: ArrayLike) -> Values:
        values = np.atleast_1d(np.asarray(errors, dtype=np.float64))
        if values.ndim != 1:
            raise ValueError(f"errors have shape {values.shape}, a stream has one dimension")
        low, high = self.bounds
        wrong = ~(np.isfinite(values) & (values >= low) & (values <= high))
        if wrong.any():
            raise ValueError(
                f"error {values[wrong][0]:g} is not a number that {self.kind} understands: "
                f"it takes {low:g} to {high:g}"
            )
        return values
