"""A request's rows of what was computed for a whole batch, cut when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, TypeVar

from numpy.typing import NDArray

from raymlops.data import Columns, GroupedColumns, num_rows, take
from raymlops.serve.batching.outputs import Outputs

T = TypeVar("T")


class Batch:
    """The `columns` and `outputs` of all rows that ran at once."""

    __slots__ = ("_made", "columns", "outputs")

    def __init__(self, columns: Columns, outputs: Outputs) -> None:
        self.columns = columns
        self.outputs = outputs
        self._made: dict[Hashable, Any] = {}

    def made_by(self, make: Callable[[Outputs], T]) -> T:
        """What `make` gives for the outputs; it is called once a batch."""
        try:
            made: T = self._made[make]
        except KeyError:
            made = self._made[make] = make(self.outputs)
        return made


class Share(Mapping[str, NDArray[Any]]):
    """The outputs of rows `start` to `end` of `batch`."""

    __slots__ = ("batch", "end", "num_rows", "start")

    def __init__(self, batch: Batch, start: int, end: int) -> None:
        self.batch = batch
        self.start = start
        self.end = end
        self.num_rows = end - start

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.batch.outputs[name][self.start : self.end]

    def __iter__(self) -> Iterator[str]:
        return iter(self.batch.outputs)

    def __len__(self) -> int:
        return len(self.batch.outputs)

    @property
    def columns(self) -> Columns:
        """What these rows were asked with."""
        columns = self.batch.columns
        if self.num_rows == num_rows(columns):
            return columns
        if isinstance(columns, GroupedColumns):
            return columns.rows(self.start, self.end)
        return take(columns, slice(self.start, self.end))
