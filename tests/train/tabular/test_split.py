from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from raymlops.data import Feature, TableSchema
from raymlops.errors import TrainingError
from raymlops.train.tabular.split import split_by_time


def test_features_without_a_single_value_are_told(
    tumours: pa.Table, tumour_schema: TableSchema
) -> None:
    """scikit-learn raised over a matrix without columns."""
    empty = Feature(name="stage", kind="category", max_missing=1.0)
    table = tumours.append_column("stage", pa.nulls(tumours.num_rows, pa.string()))
    with pytest.raises(TrainingError, match="of stage the training part has no value at all"):
        split_by_time(table, replace(tumour_schema, features=(empty,)), 0.2)
    both = replace(tumour_schema, features=(*tumour_schema.features, empty))
    alone = split_by_time(tumours, tumour_schema, 0.2)
    assert split_by_time(table, both, 0.2).preprocessing.width == alone.preprocessing.width
