"""A signature prepared for the path of requests: columns that fit are read in a few passes.

No value is looked at by Python code of its own: all numbers of a request become one matrix, which
is compared with all bounds at once. Only when something does not fit is each field looked at, by
`Signature.check`, which says what is wrong.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from operator import ge, itemgetter, le
from types import NoneType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from raymlops.data import Column, Columns, GroupedColumns, Layout
from raymlops.data.grouped import Values
from raymlops.errors import RequestError, SignatureError
from raymlops.models import Field, Signature

_LARGEST = float(np.finfo(np.float64).max)
_LARGEST_HALF = 65504.0
_LARGEST_EXACT = 2.0**53 - 1
"""Beyond, a double may be the nearest to a whole number that none is."""


class Form:
    """`inputs` and `outputs` by name, in the signature's order.

    It `is_flat` when each row has one value a field; those of one kind are one of its `groups`.
    """

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.inputs = {field.name: field for field in signature.inputs}
        self.outputs = {field.name: field for field in signature.outputs}
        self.names = tuple(self.inputs)
        self.datatypes: tuple[str, ...] = tuple(field.datatype for field in signature.inputs)
        self.is_flat = not any(field.shape for field in signature.inputs)
        self.groups = [group for group in _groups(signature.inputs) if group.names]
        self.layout = Layout([(group.names, group.dtype) for group in self.groups])

    def read(self, values: Sequence[Sequence[Any]], num_rows: int) -> GroupedColumns | None:
        """Checked columns of `values`: for each input, in order, a list of `num_rows` values.

        None when anything about them is not plainly right: the long way finds out what.
        """
        if num_rows == 1 and self.is_flat and (row := self._read_row(values)) is not None:
            return row
        if not self.is_flat or not num_rows or set(map(len, values)) != {num_rows}:
            return None
        found: list[Values] = []
        for group in self.groups:
            flat = [*chain.from_iterable(group.pick(values))]
            if not group.kinds.issuperset(map(type, flat)):
                return None
            fitting = group.read(flat, num_rows)
            if fitting is None:
                return None
            found.append(fitting)
        return GroupedColumns(self.layout, found, num_rows)

    def _read_row(self, values: Sequence[Sequence[Any]]) -> GroupedColumns | None:
        """The same of one row; None also where something is missing that may be."""
        try:
            (row,) = zip(*values, strict=True)
        except ValueError:
            return None
        found: list[Values] = []
        for group in self.groups:
            picked = group.pick(row)
            if not group.kinds.issuperset(map(type, picked)) or not group.takes(picked):
                return None
            found.append(picked)
        return GroupedColumns(self.layout, found, 1)

    def completed(self, columns: dict[str, Column]) -> dict[str, Column]:
        """`columns`, with inputs that may be missing and were not named as missing in all rows."""
        if not columns or len(columns) == len(self.inputs):
            return columns
        num_rows = len(next(iter(columns.values())))
        missing = [
            field for field in self.inputs.values() if field.nullable and field.name not in columns
        ]
        return columns | {field.name: _nothing(field, num_rows) for field in missing}

    def check(self, columns: Columns) -> None:
        """Returns quietly when `columns` are what the model takes.

        Raises:
            RequestError: 400, naming the field at fault.
        """
        try:
            self.signature.check(columns)
        except SignatureError as error:
            raise RequestError(400, str(error)) from error

    def check_names(self, names: Iterable[str]) -> None:
        """Raises RequestError, 400, when one is not that of an input."""
        for name in names:
            if name not in self.inputs:
                known = ", ".join(sorted(self.inputs))
                unknown = SignatureError(name[:80], f"unknown; the model takes {known}")
                raise RequestError(400, str(unknown)) from unknown

    def check_wanted(self, outputs: Sequence[str]) -> None:
        """Raises RequestError, 400, when there is no such output, or one is named twice: each
        would be written out as often as a small body names it."""
        left = set(self.outputs)
        for name in outputs:
            if name not in self.outputs:
                known = sorted(self.outputs)
                raise RequestError(400, f"output '{name}': unknown; there are {known}")
            if name not in left:
                raise RequestError(400, f"output '{name}': asked for twice")
            left.remove(name)


form_of = lru_cache(maxsize=64)(Form)
"""The form of a signature, which versions of equal ones share."""


class _Group(ABC):
    """Fields whose values lie in one matrix, [fields, rows]; in JSON they are `kinds`.

    `datatype` is theirs, None when they have several; `dtype` is that of the matrix.
    """

    dtype: ClassVar[np.dtype[Any]]

    def __init__(self, fields: Sequence[Field], names: Sequence[str], kinds: set[type]) -> None:
        self.names = tuple(field.name for field in fields)
        self.pick = _picker([names.index(name) for name in self.names])
        self.kinds = kinds
        datatypes = {field.datatype for field in fields}
        self.datatype: str | None = datatypes.pop() if len(datatypes) == 1 else None

    @abstractmethod
    def read(self, flat: list[Any], num_rows: int) -> Values | None:
        """The values, field after field, as a list or matrix; None when one may not be what it
        is."""

    @abstractmethod
    def takes(self, row: Sequence[Any]) -> bool:
        """Whether every value of a row is plainly what it may be; for so few, quicker than an
        array."""

    @abstractmethod
    def fits(self, matrix: NDArray[Any]) -> bool:
        """Whether every value of the matrix may be what it is."""


class _Texts(_Group):
    dtype = np.dtype(object)

    def read(self, flat: list[Any], num_rows: int) -> Values | None:
        return flat

    def takes(self, row: Sequence[Any]) -> bool:
        return True

    def fits(self, matrix: NDArray[Any]) -> bool:
        return NoneType in self.kinds or None not in matrix.ravel().tolist()


class _Numbers(_Group):
    dtype = np.dtype(np.float64)

    def __init__(self, fields: Sequence[Field], names: Sequence[str], kinds: set[type]) -> None:
        super().__init__(fields, names, kinds | {NoneType})
        bounds = np.array([bounds_of(field) for field in fields], np.float64).reshape(-1, 2)
        self._low, self._high = bounds[:, :1], bounds[:, 1:]
        self._lows, self._highs = bounds[:, 0].tolist(), bounds[:, 1].tolist()
        self._nullable = np.array([[field.nullable] for field in fields], bool)
        whole = [index for index, field in enumerate(fields) if "INT" in field.datatype]
        self._whole = np.array(whole) if whole else None

    def read(self, flat: list[Any], num_rows: int) -> Values | None:
        try:
            matrix = np.array(flat, np.float64).reshape(-1, num_rows)  # None becomes NaN
        except OverflowError:
            return None
        return matrix if self.fits(matrix) else None

    def takes(self, row: Sequence[Any]) -> bool:
        try:
            inside = all(map(le, self._lows, row)) and all(map(ge, self._highs, row))
        except TypeError:  # None is neither more nor less than a number
            return False
        return inside and (self._whole is None or {type(row[at]) for at in self._whole} == {int})

    def fits(self, matrix: NDArray[np.float64]) -> bool:
        """Whether no value is out of bounds, infinite, missing in vain or, of whole ones, not."""
        inside = (matrix >= self._low) & (matrix <= self._high)
        if not inside.all() and not (inside | (np.isnan(matrix) & self._nullable)).all():
            return False
        if self._whole is None:
            return True
        whole = matrix[self._whole]
        return bool((np.isnan(whole) | (whole == np.rint(whole))).all())


def _groups(fields: Sequence[Field]) -> Iterator[_Group]:
    names = [field.name for field in fields]
    texts = [field for field in fields if field.datatype == "BYTES"]
    flags = [field for field in fields if field.datatype == "BOOL"]
    numbers = [field for field in fields if field.datatype not in ("BYTES", "BOOL")]
    may_miss = all(field.nullable for field in texts)
    yield _Numbers(numbers, names, {int, float})
    yield _Numbers(flags, names, {bool})
    yield _Texts(texts, names, {str, NoneType} if may_miss else {str})


def _nothing(field: Field, num_rows: int) -> Column:
    shape = (num_rows, *map(abs, field.shape))  # of a free size, one
    return np.full(shape, None, object) if field.datatype == "BYTES" else np.full(shape, np.nan)


def _picker(indices: list[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Takes the items at `indices` out of a sequence."""
    if not indices:
        return lambda _: ()
    first, last = indices[0], indices[-1]
    if indices == list(range(first, last + 1)):
        return itemgetter(slice(first, last + 1))
    return itemgetter(*indices)


def bounds_of(field: Field) -> tuple[float, float]:
    """The numbers that the field plainly takes, both bounds inclusive: of finite ones all, of whole
    ones those that a double is exactly."""
    low, high = -_LARGEST, _LARGEST
    if "INT" in field.datatype:
        info = np.iinfo(field.datatype.lower())
        low, high = max(info.min, -_LARGEST_EXACT), min(info.max, _LARGEST_EXACT)
    elif field.datatype == "FP16":
        low, high = -_LARGEST_HALF, _LARGEST_HALF
    return (
        low if field.low is None else max(low, field.low),
        high if field.high is None else min(high, field.high),
    )
