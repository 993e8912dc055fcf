from __future__ import annotations

import pyarrow as pa
import pytest

from raymlops.data import add_dataset, load_dataset
from raymlops.errors import DataError
from raymlops.ledger import Ledger
from raymlops.storage import Store
from tests.data.sources.flights import SCHEMA


def test_of_a_version_the_columns_that_are_asked_for_are_loaded(
    week: pa.Table, ledger: Ledger, store: Store
) -> None:
    # A training held all of them in memory, and sorted them.
    dataset = add_dataset(ledger, store, week.append_column("note", week["origin"]), SCHEMA)
    names = ["carrier", "temp", "late", "scheduled_at"]
    assert list(SCHEMA.columns) == names
    assert load_dataset(store, dataset, names).equals(week.select(names))
    with pytest.raises(DataError, match="column 'fog' is missing; the table has scheduled_at, car"):
        load_dataset(store, dataset, ["late", "fog"])
