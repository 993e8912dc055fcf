"""What a model takes and gives: names, types, bounds and nullability of its fields."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from raymlops.data.classes import Class
from raymlops.data.features import Column, Columns
from raymlops.data.schema import TableSchema
from raymlops.data.tensors import FREE
from raymlops.errors import SignatureError
from raymlops.ledger import Bump

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES",
]  # fmt: skip
"""Names of the Open Inference Protocol; BYTES is UTF-8 text here."""

_DATATYPES = frozenset(get_args(Datatype))
_INTEGERS = frozenset(name for name in _DATATYPES if "INT" in name)
_FP16_MAX = 65504.0


@dataclass(frozen=True, kw_only=True)
class Field:
    """A column of a request or of an answer: in each row one value, or values of `shape`, of which
    the first size is FREE where it may differ between requests.

    `low` and `high` hold for every value of a row; `classes` are all that a label may be. What a
    field that `orders` says means nothing but the order of the rows of one request.
    """

    name: str
    datatype: Datatype
    nullable: bool = False
    low: float | None = None
    high: float | None = None
    shape: tuple[int, ...] = ()
    classes: tuple[Class, ...] = ()
    orders: bool = False

    def __post_init__(self) -> None:
        if self.datatype not in _DATATYPES:
            raise ValueError(
                f"field '{self.name}' has datatype {self.datatype!r}; there are "
                f"{', '.join(sorted(_DATATYPES))}"
            )
        if any(size < 1 for size in (self.shape[1:] if self.is_free else self.shape)):
            raise ValueError(
                f"field '{self.name}' has shape {list(self.shape)}; sizes are positive, or the "
                f"first is {FREE}, free"
            )

    @property
    def is_free(self) -> bool:
        """Whether rows of one request may be of another length than those of the next."""
        return self.shape[:1] == (FREE,)

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether a row may be of that shape."""
        if self.is_free:
            return shape[:1] > (0,) and shape[1:] == self.shape[1:]
        return shape == self.shape

    def to_dict(self) -> dict[str, Any]:
        """One value a row has no shape, what is no label no classes, and most order nothing, so
        such fields read as they always did."""
        values = asdict(self)
        for name in ("shape", "classes", "orders"):
            if not values[name]:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Field:
        lists = {name: tuple(values.get(name, ())) for name in ("shape", "classes")}
        return cls(**{**values, **lists})


@dataclass(frozen=True, kw_only=True)
class Signature:
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]

    @classmethod
    def of(cls, schema: TableSchema, outputs: tuple[Field, ...]) -> Signature:
        """The signature of a model that reads the features of `schema`."""
        inputs = tuple(
            Field(
                name=feature.name,
                datatype="FP64" if feature.kind == "number" else "BYTES",
                nullable=feature.nullable,
                low=feature.low,
                high=feature.high,
            )
            for feature in schema.features
        )
        return cls(inputs=inputs, outputs=outputs)

    @property
    def label(self) -> Field | None:
        """The output that names one of several classes, in the order of their probabilities."""
        return next((field for field in self.outputs if field.classes), None)

    @property
    def classes(self) -> tuple[Class, ...]:
        """What the label may be; none where the model says a probability or a number."""
        return () if self.label is None else self.label.classes

    @property
    def is_regression(self) -> bool:
        """Whether the model says a number, and neither an event, nor a class, nor an order."""
        says_event = any(field.datatype == "BOOL" for field in self.outputs)
        return not (says_event or self.label is not None or self.is_ranking)

    @property
    def is_ranking(self) -> bool:
        """Whether the model puts the rows of a request in order."""
        return any(field.orders for field in self.outputs)

    def check(self, columns: Columns) -> None:
        """Returns quietly when `columns` are what the model takes.

        Raises:
            SignatureError: names the first field that is unknown, missing, of another length,
                missing values where it may not, infinite or out of range.
        """
        known = {field.name for field in self.inputs}
        for name in columns:
            if name not in known:
                raise SignatureError(name, f"unknown; the model takes {', '.join(sorted(known))}")
        length: tuple[str, int] | None = None
        for field in self.inputs:
            column = columns.get(field.name)
            if column is None:
                raise SignatureError(field.name, "missing")
            if column.ndim == 0 or not field.takes(column.shape[1:]):
                wanted = ", ".join(["rows", *map(str, field.shape)])
                raise SignatureError(field.name, f"has shape {list(column.shape)}, not [{wanted}]")
            if length is None:
                length = (field.name, len(column))
            elif len(column) != length[1]:
                raise SignatureError(
                    field.name, f"has {len(column)} rows, '{length[0]}' has {length[1]}"
                )
            _check_values(field, column)

    def bump_from(self, older: Signature) -> Bump:
        """Which part of the version changes between `older` and this signature.

        Major when a caller of `older` may fail now (an input is new, gone, stricter or of another
        shape, an output gone or of another type or shape), minor when it only gained or loosened
        something, else patch.
        """
        if self == older:
            return "patch"
        outputs_hold = set(older.outputs) <= set(self.outputs)
        return "minor" if self._accepts_all_of(older) and outputs_hold else "major"

    def takes_all_of(self, older: Signature) -> bool:
        """Whether every request that `older` takes is taken, also one that names its outputs."""
        outputs = {field.name for field in self.outputs}
        return self._accepts_all_of(older) and outputs >= {field.name for field in older.outputs}

    def _accepts_all_of(self, older: Signature) -> bool:
        return {f.name for f in self.inputs} == {f.name for f in older.inputs} and all(
            _accepts_all(new, old)
            for new, old in zip(_sorted(self.inputs), _sorted(older.inputs), strict=True)
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "inputs": tuple(field.to_dict() for field in self.inputs),
            "outputs": tuple(field.to_dict() for field in self.outputs),
        }

    def bump_from_json(self, older: str) -> Bump:
        return self.bump_from(Signature.from_json(older))

    def to_json(self) -> str:
        """As the ledger keeps it."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Signature:
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Signature:
        return cls(
            inputs=tuple(Field.from_dict(field) for field in values["inputs"]),
            outputs=tuple(Field.from_dict(field) for field in values["outputs"]),
        )


def _check_values(field: Field, column: Column) -> None:
    if field.datatype == "BYTES":
        _check_texts(field, column)
        return
    if column.dtype.kind not in "fiub":
        raise SignatureError(field.name, f"has dtype {column.dtype}, not {field.datatype}")
    values = np.asarray(column, dtype=np.float64)
    if not field.nullable:
        _refuse(field, values, np.isnan(values), "may not be missing or NaN")
    _refuse(field, values, np.isinf(values), "must be finite")
    low, high = _bounds(field)
    if low is not None:
        _refuse(field, values, values < low, f"must be at least {low:g}")
    if high is not None:
        _refuse(field, values, values > high, f"must be at most {high:g}")
    if field.datatype in _INTEGERS:
        fractional = ~np.isnan(values) & (values != np.round(values))
        _refuse(field, values, fractional, "must be a whole number")


def _bounds(field: Field) -> tuple[float | None, float | None]:
    """The field's own, or those of its type where it has none."""
    low, high = field.low, field.high
    if field.datatype in _INTEGERS:
        info = np.iinfo(field.datatype.lower())
        low, high = _first(low, float(info.min)), _first(high, _largest_within(int(info.max)))
    elif field.datatype == "FP16":
        low, high = _first(low, -_FP16_MAX), _first(high, _FP16_MAX)
    return low, high


def _largest_within(whole: int) -> float:
    """The largest double that is not larger."""
    nearest = float(whole)
    return nearest if nearest <= whole else math.nextafter(nearest, 0.0)


def _first(value: float | None, default: float) -> float:
    return default if value is None else value


def _check_texts(field: Field, column: Column) -> None:
    per_row = int(np.prod(column.shape[1:]))
    for index, value in enumerate(column.flat):
        row = index // per_row
        if value is None:
            if not field.nullable:
                raise SignatureError(field.name, f"row {row} may not be missing")
        elif not isinstance(value, str):
            kind = type(value).__name__
            raise SignatureError(field.name, f"row {row} is {kind} ", repr(value), ", not text")


def _refuse(field: Field, values: Any, broken: Any, rule: str) -> None:
    if broken.any():
        row, *rest = where = np.unravel_index(int(np.argmax(broken)), broken.shape)
        place = f" at {[int(i) for i in rest]}" if field.shape else ""
        raise SignatureError(
            field.name,
            f"row {row} {'has' if field.shape else 'is'} ",
            f"{values[where]:g}",
            f"{place}; it {rule}",
        )


def _accepts_all(new: Field, old: Field) -> bool:
    """Whether every value that `old` took, `new` takes too."""
    low, high = float("-inf"), float("inf")
    return (
        new.datatype == old.datatype
        and new.shape == old.shape
        and (new.nullable or not old.nullable)
        and _first(new.low, low) <= _first(old.low, low)
        and _first(new.high, high) >= _first(old.high, high)
    )


def _sorted(fields: tuple[Field, ...]) -> list[Field]:
    return sorted(fields, key=lambda field: field.name)
