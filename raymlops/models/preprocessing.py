"""From columns to the float matrix or the tensor a network reads: fitted once, kept with the
model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.data.features import Column, Columns, Feature
from raymlops.data.grouped import GroupedColumns, num_rows

_LARGEST = np.finfo(np.float32).max


@dataclass(frozen=True, kw_only=True)
class NumberEncoding:
    """(x - mean) / std, 0 where missing; nullable features add a column that is 1 where missing."""

    name: str
    mean: float
    std: float
    flags_missing: bool

    @property
    def width(self) -> int:
        return 2 if self.flags_missing else 1


@dataclass(frozen=True, kw_only=True)
class CategoryEncoding:
    """One column a category of the training part; unknown and missing values are all zero."""

    name: str
    categories: tuple[str, ...]

    @property
    def width(self) -> int:
        return len(self.categories)

    @cached_property
    def _column_of(self) -> Mapping[str, int]:
        return {name: index for index, name in enumerate(self.categories)}

    def encode(self, column: Column, into: NDArray[np.float32]) -> None:
        index = np.fromiter((self._column_of.get(value, -1) for value in column), np.int64)
        known = np.flatnonzero(index >= 0)
        into[known, index[known]] = 1.0


@dataclass(frozen=True, kw_only=True)
class TensorEncoding:
    """The tensors of a column as they are, [rows, ...], of that datatype."""

    name: str
    datatype: str

    def encode(self, column: Column) -> NDArray[Any]:
        if self.datatype == "FP32":
            return np.clip(column, -_LARGEST, _LARGEST).astype(np.float32)
        return np.asarray(column).astype(self.datatype.lower())


Encoding = NumberEncoding | CategoryEncoding | TensorEncoding


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The encodings of all features, side by side; that of a tensor stands alone."""

    encodings: tuple[Encoding, ...]

    def __post_init__(self) -> None:
        tensors = [each.name for each in self.encodings if isinstance(each, TensorEncoding)]
        if tensors and len(self.encodings) > 1:
            raise ValueError(
                f"'{tensors[0]}' is a tensor, and there are {len(self.encodings)} encodings; a "
                "model is asked with a matrix or with one tensor"
            )

    @classmethod
    def fit(cls, features: Iterable[Feature], columns: Columns) -> Preprocessing:
        """Fitted on `columns`, which must be the training part only."""
        return cls(encodings=tuple(_fit(feature, columns[feature.name]) for feature in features))

    @cached_property
    def width(self) -> int:
        return sum(each.width for each in self.encodings if not isinstance(each, TensorEncoding))

    def transform(self, columns: Columns) -> NDArray[Any]:
        """The matrix [rows, width] of float32, or the tensor [rows, ...]."""
        if self._tensor is not None:
            return self._tensor.encode(columns[self._tensor.name])
        matrix = np.zeros((num_rows(columns), self.width), dtype=np.float32)
        with np.errstate(over="ignore"):  # what is beyond float32 is told as its largest number
            self._numbers.encode(columns, matrix)
        for start, each in self._categories:
            each.encode(columns[each.name], matrix[:, start : start + each.width])
        return np.clip(matrix, -_LARGEST, _LARGEST, out=matrix)

    @cached_property
    def _tensor(self) -> TensorEncoding | None:
        first = self.encodings[0] if self.encodings else None
        return first if isinstance(first, TensorEncoding) else None

    @cached_property
    def _numbers(self) -> _Numbers:
        return _Numbers(
            [(at, each) for at, each in self._placed() if isinstance(each, NumberEncoding)]
        )

    @cached_property
    def _categories(self) -> list[tuple[int, CategoryEncoding]]:
        return [(at, each) for at, each in self._placed() if isinstance(each, CategoryEncoding)]

    def _placed(self) -> Iterable[tuple[int, NumberEncoding | CategoryEncoding]]:
        """Each encoding with its first column in the matrix."""
        plain = [each for each in self.encodings if not isinstance(each, TensorEncoding)]
        widths = (encoding.width for encoding in plain)
        return zip(accumulate(widths, initial=0), plain, strict=False)

    def to_dict(self) -> dict[str, Any]:
        return {"encodings": [asdict(each) for each in self.encodings]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        return cls(
            encodings=tuple(map(_encoding, values["encodings"])),
        )


class _Numbers:
    """All numbers of a table, encoded at once: a call of numpy costs more than a row does."""

    def __init__(self, placed: Sequence[tuple[int, NumberEncoding]]) -> None:
        self._names = tuple(each.name for _, each in placed)
        self._mean = np.array([each.mean for _, each in placed])
        self._std = np.array([each.std for _, each in placed])
        self._at = _contiguous([at for at, _ in placed])
        self._flagged = [index for index, (_, each) in enumerate(placed) if each.flags_missing]
        self._flags_at = [placed[index][0] + 1 for index in self._flagged]

    def encode(self, columns: Columns, into: NDArray[np.float32]) -> None:
        values = self._values(columns)
        missing = np.isnan(values)
        scaled = (values - self._mean) / self._std
        scaled[missing] = 0.0
        into[:, self._at] = scaled
        if self._flagged:
            into[:, self._flags_at] = missing[:, self._flagged]

    def _values(self, columns: Columns) -> NDArray[np.float64]:
        """[rows, numbers]"""
        if isinstance(columns, GroupedColumns):
            matrix = columns.matrix(self._names)
            if matrix is not None:
                return matrix.T
        values = np.empty((num_rows(columns), len(self._names)))
        for index, name in enumerate(self._names):
            values[:, index] = columns[name]
        return values


def _encoding(row: Mapping[str, Any]) -> Encoding:
    """What `to_dict` made this of."""
    if "categories" in row:
        return CategoryEncoding(name=row["name"], categories=tuple(row["categories"]))
    return TensorEncoding(**row) if "datatype" in row else NumberEncoding(**row)


def _contiguous(indices: list[int]) -> list[int] | slice:
    """The same as a slice where they follow each other, which numpy takes in a quarter of the
    time."""
    if indices and indices == list(range(indices[0], indices[-1] + 1)):
        return slice(indices[0], indices[-1] + 1)
    return indices


def _fit(feature: Feature, column: Column) -> NumberEncoding | CategoryEncoding:
    if feature.kind == "category":
        names = sorted({value for value in column if value is not None})
        return CategoryEncoding(name=feature.name, categories=tuple(names))
    values = np.asarray(column, dtype=np.float64)
    known = values[~np.isnan(values)]
    mean, std = _moments(known)
    return NumberEncoding(name=feature.name, mean=mean, std=std, flags_missing=feature.nullable)


def _moments(known: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation; a constant feature keeps its scale and encodes to zero."""
    if not known.size:
        return 0.0, 1.0
    # Told by the values: a thousand times 0.1 has a deviation of 1.4e-17 from its rounded mean.
    if known.min() == known.max():
        return float(known[0]), 1.0
    with np.errstate(over="ignore"):
        mean, std = float(known.mean()), float(known.std())
    if not math.isfinite(mean + std):  # squares of 1e200 are infinite
        largest = float(np.abs(known).max())
        shrunk = known / largest
        mean, std = float(shrunk.mean()) * largest, float(shrunk.std()) * largest
    return mean, std or 1.0  # squares of 1e-200 are 0
