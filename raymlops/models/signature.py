"""What a model takes and gives: names, types, bounds and nullability of its fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from raymlops.data.features import Column, Columns
from raymlops.data.schema import TableSchema
from raymlops.errors import SignatureError
from raymlops.ledger import Bump

Datatype = Literal["BOOL", "INT64", "FP32", "FP64", "BYTES"]
"""Names of the Open Inference Protocol; BYTES is UTF-8 text here."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A column of a request or of an answer: one value a row."""

    name: str
    datatype: Datatype
    nullable: bool = False
    low: float | None = None
    high: float | None = None


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
            if column.ndim != 1:
                raise SignatureError(field.name, f"has shape {list(column.shape)}, not [rows]")
            if length is None:
                length = (field.name, len(column))
            elif len(column) != length[1]:
                raise SignatureError(
                    field.name, f"has {len(column)} rows, '{length[0]}' has {length[1]}"
                )
            _check_values(field, column)

    def bump_from(self, older: Signature) -> Bump:
        """Which part of the version changes between `older` and this signature.

        Major when a caller of `older` may fail now (an input is new, gone or stricter, an output
        gone or of another type), minor when it only gained or loosened something, else patch.
        """
        if self == older:
            return "patch"
        inputs_hold = {f.name for f in self.inputs} == {f.name for f in older.inputs} and all(
            _accepts_all(new, old)
            for new, old in zip(_sorted(self.inputs), _sorted(older.inputs), strict=True)
        )
        outputs_hold = set(older.outputs) <= set(self.outputs)
        return "minor" if inputs_hold and outputs_hold else "major"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Signature:
        return cls(
            inputs=tuple(Field(**field) for field in values["inputs"]),
            outputs=tuple(Field(**field) for field in values["outputs"]),
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
    if field.low is not None:
        _refuse(field, values, values < field.low, f"must be at least {field.low:g}")
    if field.high is not None:
        _refuse(field, values, values > field.high, f"must be at most {field.high:g}")


def _check_texts(field: Field, column: Column) -> None:
    for row, value in enumerate(column):
        if value is None:
            if not field.nullable:
                raise SignatureError(field.name, f"row {row} may not be missing")
        elif not isinstance(value, str):
            raise SignatureError(
                field.name, f"row {row} is {type(value).__name__} {value!r}, not text"
            )


def _refuse(field: Field, values: Any, broken: Any, rule: str) -> None:
    if broken.any():
        row = int(np.argmax(broken))
        raise SignatureError(field.name, f"row {row} is {values[row]:g}; it {rule}")


def _accepts_all(new: Field, old: Field) -> bool:
    """Whether every value that `old` took, `new` takes too."""
    low, high = float("-inf"), float("inf")

    def bound(value: float | None, default: float) -> float:
        return default if value is None else value

    return (
        new.datatype == old.datatype
        and (new.nullable or not old.nullable)
        and bound(new.low, low) <= bound(old.low, low)
        and bound(new.high, high) >= bound(old.high, high)
    )


def _sorted(fields: tuple[Field, ...]) -> list[Field]:
    return sorted(fields, key=lambda field: field.name)
