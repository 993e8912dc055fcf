"""A table split by time: older rows to fit on, the newest to validate on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raymlops.data import Columns, Feature, TableSchema, read_columns, take
from raymlops.errors import TrainingError
from raymlops.models import Preprocessing
from raymlops.train.tabular.arrays import Arrays
from raymlops.train.tabular.targets import target_of


@dataclass(frozen=True, kw_only=True)
class Split:
    """The encoded parts, the preprocessing fitted on the older, and the time of the last row."""

    features: tuple[Feature, ...]
    columns: Columns
    preprocessing: Preprocessing
    arrays: Arrays
    last_event: datetime


def split_by_time(table: pa.Table, schema: TableSchema, validation_share: float) -> Split:
    """The newest `validation_share` of the rows validate; nothing is fitted on them.

    Raises:
        TrainingError: a part is empty or all its labels are the same, no answer could be near them,
            or no feature has a value to learn from.
    """
    table = table.sort_by(schema.event_time)
    num_train = table.num_rows - round(table.num_rows * validation_share)
    target = target_of(schema)
    labels = target.read(table[schema.target], name=schema.target)
    for name, part in (("training", labels[:num_train]), ("validation", labels[num_train:])):
        if (num := len(np.unique(part))) < 2:
            same = f", in all of which '{schema.target}' is the same" if num else ""
            raise TrainingError(
                f"the {name} part has {len(part)} of {len(labels)} rows{same}; it needs "
                f"{target.wanted} {target.of_values}: give more rows, or another "
                "train.validation_share"
            )
    if (why := target.out_of_reach(labels[:num_train])) is not None:
        raise TrainingError(f"'{schema.target}' cannot be learned: {why}")
    columns = read_columns(table, schema.features)
    older = take(columns, slice(0, num_train))
    preprocessing = Preprocessing.fit(schema.features, older)
    if not preprocessing.width:
        names = ", ".join(feature.name for feature in schema.features)
        raise TrainingError(
            f"of {names} the training part has no value at all; declare features that have some"
        )
    return Split(
        features=schema.features,
        columns=columns,
        preprocessing=preprocessing,
        arrays=Arrays(
            train=preprocessing.transform(older),
            train_labels=labels[:num_train],
            validation=preprocessing.transform(take(columns, slice(num_train, None))),
            validation_labels=labels[num_train:],
            target=target,
        ),
        last_event=pc.max(table[schema.event_time]).as_py(),
    )
