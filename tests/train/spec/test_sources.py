from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from raymlops.data.loading import ArraySource
from raymlops.errors import TrainingError
from raymlops.train.spec.factory import Factory
from raymlops.train.spec.sources import Sources

ROWS = np.arange(4.0)
SOURCE = ArraySource([ROWS, ROWS])
EMPTY = ArraySource([ROWS[:0], ROWS[:0]])
GIVEN: dict[str, Any] = {
    "one": SOURCE,
    "pair": (SOURCE, EMPTY),
    "list": [SOURCE, SOURCE],
    "without": (SOURCE, None),
    "empty": EMPTY,
    "arrays": (ROWS, ROWS),
    "tensor": torch.zeros(3),
    "three": (SOURCE, SOURCE, SOURCE),
    "alone": (SOURCE,),
    "nothing": None,
    "frame": pd.DataFrame({"x": ROWS}),
    "table": [SOURCE, pa.table({"x": ROWS})],
}


def give(name: str) -> Any:
    return GIVEN[name]


def made(name: str) -> Sources:
    return Sources.make(
        Factory(call="tests.train.spec.test_sources:give", arguments={"name": name})
    )


@pytest.mark.parametrize(
    ("name", "validation"), [("one", None), ("list", SOURCE), ("without", None)]
)
def test_a_factory_gives_a_source_or_a_pair(name: str, validation: ArraySource | None) -> None:
    """A pair in a list was taken for a source."""
    assert made(name) == Sources(train=SOURCE, validation=validation)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("arrays", "a tuple of ndarray, ndarray"),
        ("tensor", "a Tensor"),
        ("three", "a tuple of ArraySource, ArraySource, ArraySource"),
        ("alone", "a tuple of ArraySource"),
        ("nothing", "a NoneType"),
        ("frame", "a DataFrame"),
        ("table", "a list of ArraySource, Table"),
    ],
)
def test_what_is_no_source_is_told(name: str, told: str) -> None:
    """Such a run ended with an AttributeError or a TypeError of the loop's."""
    with pytest.raises(TrainingError, match=f"test_sources:give gives {told}; it gives a Source"):
        made(name)


@pytest.mark.parametrize(("name", "purpose"), [("empty", "train"), ("pair", "validate")])
def test_a_source_has_rows(name: str, purpose: str) -> None:
    """Without rows to validate on, a run divided by zero after its first epoch."""
    with pytest.raises(TrainingError, match=f"test_sources:give gives no rows to {purpose} on"):
        made(name)
