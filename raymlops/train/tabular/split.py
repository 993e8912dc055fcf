"""A table split by time: older rows to fit on, the newest to validate on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raymlops.data import Columns, TableSchema, class_numbers, read_classes, read_columns, take
from raymlops.errors import TrainingError
from raymlops.models import Preprocessing
from raymlops.train.tabular.arrays import Arrays


@dataclass(frozen=True, kw_only=True)
class Split:
    """The encoded parts, the preprocessing fitted on the older, and the time of the last row."""

    columns: Columns
    preprocessing: Preprocessing
    arrays: Arrays
    last_event: datetime


def split_by_time(table: pa.Table, schema: TableSchema, validation_share: float) -> Split:
    """The newest `validation_share` of the rows validate; nothing is fitted on them.

    Raises:
        TrainingError: a part is empty or holds one class only, or no feature has a value to learn
            from.
    """
    table = table.sort_by(schema.event_time)
    num_train = table.num_rows - round(table.num_rows * validation_share)
    labels = _labels(table[schema.target], schema)
    for name, part in (("training", labels[:num_train]), ("validation", labels[num_train:])):
        if len(np.unique(part)) < 2:
            raise TrainingError(
                f"the {name} part has {len(part)} of {len(labels)} rows and "
                f"{len(np.unique(part))} classes of '{schema.target}'; it needs "
                + ("two or more" if schema.classes else "both")
            )
    columns = read_columns(table, schema.features)
    older = take(columns, slice(0, num_train))
    preprocessing = Preprocessing.fit(schema.features, older)
    if not preprocessing.width:
        names = ", ".join(feature.name for feature in schema.features)
        raise TrainingError(
            f"of {names} the training part has no value at all; declare features that have some"
        )
    return Split(
        columns=columns,
        preprocessing=preprocessing,
        arrays=Arrays(
            train=preprocessing.transform(older),
            train_labels=labels[:num_train],
            validation=preprocessing.transform(take(columns, slice(num_train, None))),
            validation_labels=labels[num_train:],
            num_classes=len(schema.classes),
        ),
        last_event=pc.max(table[schema.event_time]).as_py(),
    )


def _labels(target: pa.ChunkedArray, schema: TableSchema) -> NDArray[Any]:
    """0/1 as float32, or the number of each class as int64."""
    if not schema.classes:
        events: NDArray[Any] = target.cast(pa.float32()).to_numpy()
        return events
    values = read_classes(target, schema.classes[0], name=schema.target)
    return class_numbers(values, schema.classes)
