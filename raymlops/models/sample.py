"""Rows like those a model was trained on, made of its signature and profile."""

from __future__ import annotations

from typing import Any

import numpy as np

from raymlops.data.bins import Bins, NumberBins
from raymlops.data.features import Column
from raymlops.data.profile import Profile
from raymlops.data.projections import Projection
from raymlops.data.tensors import FREE
from raymlops.models.signature import Field, Signature

_LARGEST = np.finfo(np.float64).max


def sample_columns(signature: Signature, profile: Profile, num_rows: int) -> dict[str, Column]:
    """The same rows each time; of no person, since profiles hold only bins."""
    bins = {each.name: each for each in profile.bins}
    tensors = {each.column: each for each in profile.projections}
    return {
        field.name: _tensors(field, tensors[field.name], num_rows)
        if field.name in tensors
        else _sample(field, bins.get(field.name), num_rows)
        for field in signature.inputs
    }


def as_records(columns: dict[str, Column]) -> list[dict[str, Any]]:
    """Columns of equal length as JSON has rows: numbers rounded, null for what is missing."""
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, map(_plain, row), strict=True)) for row in rows]


def _tensors(field: Field, seen: Projection, num_rows: int) -> Column:
    """Noise within what was seen: a profile keeps no row, and nothing of which values lie where."""
    shape = [seen.size if size == FREE else size for size in field.shape]
    values: Any = np.random.default_rng(0).uniform(seen.low, seen.high, (num_rows, *shape))
    column: Column = np.round(values).astype(np.int64) if "INT" in field.datatype else values
    return column


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(each) for each in value]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else round(float(value), 6)
    return value


def _sample(field: Field, bins: Bins | None, num_rows: int) -> Column:
    if field.datatype == "BYTES":
        known = () if bins is None or isinstance(bins, NumberBins) else bins.categories
        return np.resize(np.array(known or ("",), dtype=object), (num_rows, *field.shape))
    edges = bins.edges if isinstance(bins, NumberBins) else ()
    values = np.array(edges or (field.low or field.high or 0.0,))
    if "INT" in field.datatype:  # bins lie between values, which are whole numbers here
        values = np.round(values)
    # The last edge lies above all that was seen, and so above a bound that was reached, if only
    # that of floats.
    low = -_LARGEST if field.low is None else field.low
    values = values.clip(low, _LARGEST if field.high is None else field.high)
    return np.resize(values, (num_rows, *field.shape))
