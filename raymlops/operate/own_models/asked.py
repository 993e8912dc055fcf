"""What a model of somebody's own is asked of rows: a matrix of their numbers, or one tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raymlops.data import Column, Columns, Feature, num_rows, read_columns
from raymlops.data.projections import Projection
from raymlops.data.tensors import is_tensor, read_tensors
from raymlops.errors import DataError, ModelError
from raymlops.models import Field, Postprocessing, Predictor, Preprocessing
from raymlops.models.preprocessing import NumberEncoding, TensorEncoding

_AT_ONCE = 1024
"""Rows: of images, what lies between a model's layers is many times as large."""

Bounds = Mapping[str, tuple[float | None, float | None]]
"""Of a column the least and the largest value, both inclusive; None where there is none."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The `columns` of rows as a model with inputs of these `fields` is asked with them.

    `projections` tell of a tensor what is counted.
    """

    columns: Columns
    fields: tuple[Field, ...]
    preprocessing: Preprocessing
    projections: tuple[Projection, ...] = ()

    @classmethod
    def of(cls, rows: pa.Table) -> Asked:
        """Raises DataError when a column is neither, or lacks values, or beside a tensor there is
        another column."""
        tensors = [each.name for each in rows.schema if is_tensor(each.type)]
        if not tensors:
            return cls._of_numbers(rows)
        if rows.num_columns > 1:
            raise DataError(
                f"column '{tensors[0]}' holds tensors, and the rows have columns "
                f"{', '.join(rows.column_names)}: a model is asked with numbers, or with one "
                "tensor; drop what it does not take, or put all that it takes into one list"
            )
        return cls._of_tensors(rows, tensors[0])

    @classmethod
    def _of_numbers(cls, rows: pa.Table) -> Asked:
        columns = numbers_of(rows)
        return cls(
            columns=columns,
            fields=tuple(Field(name=each, datatype="FP64") for each in columns),
            preprocessing=Preprocessing(
                encodings=tuple(
                    NumberEncoding(name=each, mean=0.0, std=1.0, flags_missing=False)
                    for each in columns
                )
            ),
        )

    @classmethod
    def _of_tensors(cls, rows: pa.Table, name: str) -> Asked:
        tensors, shape = read_tensors(rows[name], name=name)
        field = Field(name=name, datatype=_datatype(tensors), shape=shape)
        return cls(
            columns={name: tensors},
            fields=(field,),
            preprocessing=Preprocessing(
                encodings=(TensorEncoding(name=name, datatype=field.datatype),)
            ),
            projections=(Projection.of(name, tensors),),
        )

    def within(self, bounds: Bounds) -> Asked:
        """The same with fields of these bounds.

        Raises:
            ValueError: one is of no column.
            DataError: a value lies outside.
        """
        if unknown := [name for name in bounds if name not in self.columns]:
            raise ValueError(
                f"bounds names {', '.join(unknown)}; the model is asked with "
                f"{', '.join(self.columns)}"
            )
        for name, (low, high) in bounds.items():
            least, largest = self.columns[name].min(), self.columns[name].max()
            if (low is not None and least < low) or (high is not None and largest > high):
                raise DataError(
                    f"column '{name}' holds {least:g} to {largest:g}, and its bounds are "
                    f"{low} and {high}"
                )
        bounded = (
            replace(field, low=low, high=high)
            for field in self.fields
            for low, high in (bounds.get(field.name, (None, None)),)
        )
        return replace(self, fields=tuple(bounded))

    def said_by(self, predictor: Predictor, postprocessing: Postprocessing) -> NDArray[np.float32]:
        """What is watched of the answers to all rows.

        Raises:
            ModelError: it does not take them, or says something else than is read from it.
        """
        parts = [
            postprocessing.apply(self._ask(predictor, slice(start, start + _AT_ONCE)))
            for start in range(0, num_rows(self.columns), _AT_ONCE)
        ]
        return np.concatenate([part[postprocessing.score] for part in parts])

    def _ask(self, predictor: Predictor, rows: slice) -> NDArray[Any]:
        inputs = self.preprocessing.transform(
            {name: column[rows] for name, column in self.columns.items()}
        )
        try:
            return predictor(inputs)
        except ModelError:
            raise
        except Exception as error:  # every library has its own way to refuse what it is asked
            raise ModelError(
                f"the model does not take {inputs.dtype} of shape {list(inputs.shape)}, which "
                f"the columns of the rows but the label's are: {error}"
            ) from error


def numbers_of(rows: pa.Table) -> Mapping[str, Column]:
    """Raises DataError when a column is no number, or lacks values."""
    features = tuple(Feature(name=each, kind="number") for each in rows.column_names)
    columns = read_columns(rows, features)
    for each, values in columns.items():
        if missing := int(np.isnan(values).sum()):
            raise DataError(
                f"column '{each}' lacks {missing} of {len(values)} values; fill them as the model "
                "was trained, or leave these rows out"
            )
    return columns


def _datatype(tensors: NDArray[Any]) -> Any:
    """As the Open Inference Protocol calls it: UINT8, INT64, FP32."""
    return "FP32" if tensors.dtype.kind == "f" else tensors.dtype.name.upper()
