"""What a user's rows say: what the model is asked, what came true, which rows are of one query."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raymlops.data import OUTPUTS, class_numbers, read_classes
from raymlops.errors import DataError
from raymlops.models import Postprocessing
from raymlops.operate.own_models.asked import Asked, numbers_of


def queries_of(
    rows: pa.Table, query: str | None, postprocessing: Postprocessing
) -> tuple[NDArray[np.int64], pa.Table]:
    """The number of the query that each row is of, where there are any, and all other columns."""
    if postprocessing.is_ranking != (query is not None):
        raise ValueError(
            "a model that says a relevance is held to the order of the rows of each query: name "
            "the column that tells these apart, query='...'"
            if query is None
            else f"query is '{query}', but a {postprocessing.reads} orders nothing: leave it out"
        )
    if query is None:
        return np.empty(0, np.int64), rows
    if query not in rows.column_names:
        raise DataError(
            f"the rows have no column '{query}', which is to say which of them are of one query, "
            f"but {', '.join(rows.column_names)}"
        )
    if missing := rows[query].null_count:
        raise DataError(f"column '{query}' names no query in {missing} of {rows.num_rows} rows")
    numbers = rows[query].combine_chunks().dictionary_encode().indices
    return numbers.to_numpy().astype(np.int64), rows.drop_columns(query)


def asked_of(rows: pa.Table, postprocessing: Postprocessing) -> tuple[Asked, NDArray[np.float64]]:
    """What the model is asked, and what came true."""
    label = postprocessing.label
    if label not in rows.column_names:
        raise DataError(
            f"the rows have no column '{label}', which holds what came true, but "
            f"{', '.join(rows.column_names)}: name it in the postprocessing"
        )
    if taken := [name for name in OUTPUTS if name in rows.column_names]:
        raise DataError(
            f"a column is called '{taken[0]}', as the model's own output is in profiles and drift; "
            "give it another name"
        )
    asked = Asked.of(rows.drop_columns(label))
    if postprocessing.classes:
        return asked, _classes(rows[label], postprocessing)
    labels = np.asarray(numbers_of(rows.select([label]))[label], dtype=np.float64)
    if (infinite := int(np.isinf(labels).sum())) > 0:
        raise DataError(
            f"column '{label}' is infinite in {infinite} of {len(labels)} rows, of which no error "
            "can be told; leave these rows out"
        )
    if postprocessing.is_ranking:
        if (labels < 0).any():
            raise DataError(
                f"column '{label}' holds {labels.min():g}; how relevant a row was is 0, of no use, "
                "or more"
            )
    elif not postprocessing.is_regression and not np.isin(labels, (0, 1)).all():
        odd = labels[~np.isin(labels, (0, 1))][0]
        raise DataError(
            f"column '{label}' holds {odd:g}; a {postprocessing.reads} says that something is 0 or "
            "1; for several classes name them, for numbers give reads='number', for an order "
            "reads='relevance'"
        )
    return asked, labels


def _classes(column: pa.ChunkedArray, postprocessing: Postprocessing) -> NDArray[np.float64]:
    """The number of the class that came true in each row."""
    classes, name = postprocessing.classes, postprocessing.label
    values = read_classes(column, classes[0], name=name)
    numbers = class_numbers(values, classes)
    if (odd := numbers < 0).any():
        raise DataError(
            f"column '{name}' holds {values[odd][0]!r}, the classes of the model are "
            f"{', '.join(map(repr, classes))}"
        )
    return numbers.astype(np.float64)
