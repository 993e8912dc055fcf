"""A request's rows of what was computed for a whole batch, cut when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from numpy.typing import NDArray

T = TypeVar("T")


class Share(Mapping[str, NDArray[Any]]):
    """Rows `start` to `end` of `outputs`, which all requests of the batch share, as they do
    `made`."""

    __slots__ = ("_end", "_made", "_outputs", "_start", "num_rows")

    def __init__(
        self,
        outputs: Mapping[str, NDArray[Any]],
        made: dict[Hashable, Any],
        start: int,
        end: int,
    ) -> None:
        self._outputs = outputs
        self._made = made
        self._start = start
        self._end = end
        self.num_rows = end - start

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._outputs[name][self._start : self._end]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def each(
        self, make: Callable[[Mapping[str, NDArray[Any]]], Sequence[T] | None]
    ) -> Sequence[T] | None:
        """The share of what `make` gives for the rows of the whole batch, for which it is called
        once; None where that is None."""
        made = self._made
        if make not in made:
            made[make] = make(self._outputs)
        whole: Sequence[T] | None = made[make]
        return None if whole is None else whole[self._start : self._end]
