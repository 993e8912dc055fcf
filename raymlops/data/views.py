"""What of a column can be compared: its number, its category, the length of a text or a list, an
embedding's direction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raymlops.data.features import Column, Feature, as_floats, read_columns
from raymlops.data.projections import Projection, along, directions_named
from raymlops.data.rules.base import is_category, is_number
from raymlops.data.tensors import is_list, is_tensor, of_shape, read_tensors
from raymlops.errors import DataError

Comparable = Literal["number", "category", "embedding"]

# A column of more different texts has no bins for most of them: it is read, not chosen from.
_MAX_CATEGORIES = 512


class View(ABC):
    """Features made of one column of a table."""

    def __init__(self, column: str) -> None:
        self.column = column

    @property
    @abstractmethod
    def features(self) -> tuple[Feature, ...]: ...

    @abstractmethod
    def read(self, table: pa.Table) -> Sequence[Column]:
        """A column of values for each feature.

        Raises:
            DataError: the table's column cannot be read as this.
        """


class Plain(View):
    """The column itself, a number or a category."""

    def __init__(self, column: str, kind: Literal["number", "category"]) -> None:
        super().__init__(column)
        self._kind = kind

    @property
    def features(self) -> tuple[Feature, ...]:
        return (Feature(name=self.column, kind=self._kind, max_missing=1.0),)

    def read(self, table: pa.Table) -> Sequence[Column]:
        return list(read_columns(table, self.features).values())


class Text(View):
    """How many characters a text has; which ones is not looked at."""

    @property
    def features(self) -> tuple[Feature, ...]:
        return (_number(f"{self.column} length"),)

    def read(self, table: pa.Table) -> Sequence[Column]:
        lengths = pc.utf8_length(table[self.column].cast(pa.string())).cast(pa.float64())
        return [np.asarray(lengths.fill_null(np.nan).to_numpy())]


class Length(View):
    """How many numbers a list has; which ones is not looked at."""

    @property
    def features(self) -> tuple[Feature, ...]:
        return (_number(f"{self.column} length"),)

    def read(self, table: pa.Table) -> Sequence[Column]:
        return [_lengths(table[self.column])]


class Embedding(View):
    """How many numbers a vector has, its norm, and where it lies along eight random directions,
    see `projections`; a vector of another model, of more or fewer numbers, has its length alone.
    """

    def __init__(self, column: str, dimension: int) -> None:
        super().__init__(column)
        self._dimension = dimension

    @property
    def features(self) -> tuple[Feature, ...]:
        directions = directions_named(self.column)
        names = (f"{self.column} length", f"{self.column} norm", *directions)
        return tuple(map(_number, names))

    def read(self, table: pa.Table) -> Sequence[Column]:
        column = table[self.column].combine_chunks()
        lengths = _lengths(column)
        return [lengths, *along(self._vectors(column, lengths == self._dimension))]

    def _vectors(self, column: pa.Array, fits: NDArray[np.bool_]) -> NDArray[np.float64]:
        """[rows, dimension]; of vectors that do not fit, and those with a missing number, NaN."""
        vectors = np.full((len(column), self._dimension), np.nan)
        flat = as_floats(column.filter(pa.array(fits)).flatten()).fill_null(np.nan)
        vectors[fits] = flat.to_numpy(zero_copy_only=False).reshape(-1, self._dimension)
        return vectors


class Tensors(View):
    """What `projections` tell of images, and of texts as tokens; those of another shape are
    missing."""

    def __init__(self, column: str, projection: Projection, shape: tuple[int, ...]) -> None:
        super().__init__(column)
        self._projection = projection
        self._shape = shape

    @property
    def features(self) -> tuple[Feature, ...]:
        return tuple(map(_number, self._projection.names))

    def read(self, table: pa.Table) -> Sequence[Column]:
        fits = of_shape(table[self.column], self._shape)
        found = np.full((len(self._projection.names), len(fits)), np.nan)
        if fits.any():
            rows = table[self.column].filter(pa.array(fits))
            tensors, _ = read_tensors(rows, name=self.column)
            found[:, fits] = list(self._projection.read(tensors).values())
        return list(found)


def comparable(kind: pa.DataType) -> Comparable | None:
    """As what columns of this type are compared, None if not at all."""
    if is_number(kind) or pa.types.is_decimal(kind):
        return "number"
    if is_category(kind) or pa.types.is_boolean(kind):
        return "category"
    if is_tensor(kind):
        return "embedding"
    return None


def shared(left: pa.Schema, right: pa.Schema) -> list[str]:
    """Columns of `left` that `right` has, too, and that are compared as the same."""
    return [
        field.name
        for field in left
        if field.name in right.names
        and (wanted := comparable(field.type)) is not None
        and wanted == comparable(right.field(field.name).type)
    ]


def views_of(sample: pa.Table, names: Iterable[str]) -> tuple[View, ...]:
    """How each of the columns `names` is compared that can be; `sample` tells texts and lists of
    any length from others."""
    views = (_view(sample, name, comparable(sample.schema.field(name).type)) for name in names)
    return tuple(view for view in views if view is not None)


def _view(sample: pa.Table, name: str, kind: Comparable | None) -> View | None:
    if kind is None:
        return None
    if kind == "number":
        return Plain(name, "number")
    if kind == "category":
        few = pc.count_distinct(sample[name].cast(pa.string())).as_py() <= _MAX_CATEGORIES
        return Plain(name, "category") if few else Text(name)
    column = sample[name]
    if is_list(column.type) and is_number(column.type.value_type):
        lengths = pc.unique(pc.list_value_length(column).drop_null()).to_pylist()
        if len(lengths) == 1 and lengths[0]:
            return Embedding(name, lengths[0])
        if not pa.types.is_integer(column.type.value_type):
            return Length(name)
    return _of_tensors(name, column)


def _of_tensors(name: str, column: pa.ChunkedArray) -> View:
    """Tokens or vectors as the sample has them, and lists of which it has nothing else by how many
    they are."""
    try:
        tensors, shape = read_tensors(column.drop_null(), name=name)
    except DataError:
        if not is_list(column.type):
            raise
        return Length(name)
    return Tensors(name, Projection.of(name, tensors), shape)


def _lengths(column: pa.Array | pa.ChunkedArray) -> NDArray[np.float64]:
    """Of each list, NaN where it is missing."""
    lengths = pc.list_value_length(column).cast(pa.float64()).fill_null(np.nan)
    return np.asarray(lengths.to_numpy(zero_copy_only=False))


def _number(name: str) -> Feature:
    return Feature(name=name, kind="number", max_missing=1.0)
