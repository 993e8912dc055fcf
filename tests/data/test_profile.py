from __future__ import annotations

import math

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.data import SCORE, Columns, Feature, Profile, TableSchema, read_columns, take

FEATURES = (
    Feature(name="x", kind="number", max_missing=1.0),
    Feature(name="c", kind="category", max_missing=1.0),
)


def profile_of(columns: Columns) -> Profile:
    scores = np.linspace(0, 1, len(columns["x"]), dtype=np.float32)
    return Profile.of(FEATURES, columns, scores, label_rate=0.5, log_loss=0.6)


@pytest.fixture
def profile(tumours: pa.Table, tumour_schema: TableSchema) -> tuple[Profile, Columns]:
    columns = read_columns(tumours, tumour_schema.features)
    scores = np.linspace(0, 1, 569, dtype=np.float32)
    made = Profile.of(tumour_schema.features, columns, scores, label_rate=0.6, log_loss=0.1)
    return made, columns


def test_counting_the_reference_gives_the_reference(profile: tuple[Profile, Columns]) -> None:
    made, columns = profile
    scores = np.linspace(0, 1, 569, dtype=np.float32)
    assert made.count(columns, scores).tolist() == list(made.reference)
    assert list(made.cells) == [*columns, SCORE]
    for cells in made.cells.values():
        assert sum(made.reference[cells]) == 569


def test_shards_add_up_to_the_whole_bit_for_bit(profile: tuple[Profile, Columns]) -> None:
    made, columns = profile
    scores = np.linspace(0, 1, 569, dtype=np.float32)
    shards = np.array_split(np.arange(569), 8)
    total = sum(made.count(take(columns, rows), scores[rows]) for rows in shards)
    np.testing.assert_array_equal(total, made.count(columns, scores))


def test_a_profile_survives_its_file(profile: tuple[Profile, Columns]) -> None:
    made, _ = profile
    assert Profile.from_dict(made.to_dict()) == made


def test_what_older_bundles_say_of_numbers_is_that_nobody_knows() -> None:
    """They kept 0 for a log loss, which every window would be worse than."""
    columns = {"x": np.arange(100.0), "c": np.full(100, "a", dtype=object)}
    made = profile_of(columns)
    old = Profile.from_dict({**made.to_dict(), "log_loss": 0.0})
    assert math.isnan(old.loss)
    assert old.tolerance is None


def test_infinite_values_survive_the_file_of_a_bundle() -> None:
    """JSON made null of their edges, and a replica counted none of the rows it answered."""
    values = np.array([-np.inf, 0.0, 1.0, np.inf] * 100)
    columns = {"x": values, "c": np.full(len(values), "a", dtype=object)}
    made = profile_of(columns)
    read = Profile.from_dict(orjson.loads(orjson.dumps(made.to_dict())))
    assert read == made
    old = orjson.loads(
        orjson.dumps(made.to_dict()).replace(b'"-inf"', b"null").replace(b'"inf"', b"null")
    )
    assert Profile.from_dict(old) == made
    scores = np.zeros(len(values), dtype=np.float32)
    assert read.count(columns, scores)[:5].tolist() == [0, 100, 100, 100, 100]


def test_values_never_seen_have_their_cells() -> None:
    reference = {
        "x": np.array([1.0, 2.0, 2.0, 3.0]),
        "c": np.array(["a", "b", "b", None], dtype=object),
    }
    profile = profile_of(reference)
    window = {
        "x": np.array([-np.inf, np.inf, np.nan, 2.0]),
        "c": np.array(["b", "new", None, "a"], dtype=object),
    }
    counts = profile.count(window, np.full(4, 0.5, dtype=np.float32))
    # Below 1, from 1, from 2, from 3, above all that was seen, missing.
    assert counts[profile.cells["x"]].tolist() == [1, 0, 1, 0, 1, 1]
    assert counts[profile.cells["c"]].tolist() == [1, 1, 1, 1]  # b, a, other, missing


def test_a_column_with_nothing_known_still_counts() -> None:
    empty = {"x": np.full(3, np.nan), "c": np.array([None] * 3, dtype=object)}
    profile = profile_of(empty)
    counts = profile.count(empty, np.zeros(3, dtype=np.float32))
    assert counts[profile.cells["x"]].tolist() == [0, 3]
    assert counts[profile.cells["c"]].tolist() == [0, 3]


@given(st.lists(st.floats(allow_nan=True), min_size=1, max_size=60))
def test_every_row_falls_into_one_cell(values: list[float]) -> None:
    columns = {"x": np.array(values), "c": np.array(["a"] * len(values), dtype=object)}
    profile = profile_of(columns)
    counts = profile.count(columns, np.zeros(len(values), dtype=np.float32))
    assert [int(counts[cells].sum()) for cells in profile.cells.values()] == [len(values)] * 3
