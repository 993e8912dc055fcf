from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from raymlops.data.tensors import FREE, is_tensor, no_rows, read_tensors
from raymlops.errors import DataError

IMAGES = np.arange(24, dtype=np.uint8).reshape(3, 2, 2, 2)
PIXELS = pa.list_(pa.list_(pa.list_(pa.uint8())))


@pytest.mark.parametrize(
    "column",
    [
        pa.array(IMAGES.tolist(), PIXELS),
        pa.FixedShapeTensorArray.from_numpy_ndarray(IMAGES),
        pa.array(IMAGES.tolist(), pa.list_(pa.list_(pa.list_(pa.uint8(), 2), 2), 2)),
    ],
    ids=["lists", "tensors", "fixed"],
)
def test_images_are_read_however_they_lie(column: pa.Array) -> None:
    halves = pa.chunked_array([column[:1], column[1:]])  # a slice begins within its values
    found, shape = read_tensors(halves, name="image")
    assert (shape, found.dtype) == ((2, 2, 2), np.uint8)
    np.testing.assert_array_equal(found, IMAGES)


def test_tensors_in_another_order_are_refused() -> None:
    """They were read by pyarrow as what they are not, or not at all."""
    turned = pa.FixedShapeTensorArray.from_numpy_ndarray(IMAGES[:, None])
    with pytest.raises(
        DataError, match=r"axes lie in the order \[1, 2, 3, 0\]; make it of a .copy"
    ):
        read_tensors(pa.chunked_array([turned]), name="image")
    copied = pa.FixedShapeTensorArray.from_numpy_ndarray(IMAGES[:, None].copy())
    found, _ = read_tensors(pa.chunked_array([copied]), name="image")
    np.testing.assert_array_equal(found, IMAGES[:, None])


def test_numbers_that_are_not_whole_are_single() -> None:
    found, shape = read_tensors(pa.chunked_array([pa.array([[0.5, 1.5], [2.0, 3.0]])]), name="x")
    assert (shape, found.dtype, found.tolist()) == ((2,), np.float32, [[0.5, 1.5], [2.0, 3.0]])


def test_shorter_texts_have_zeros_behind() -> None:
    tokens = pa.chunked_array([pa.array([[7], [1, 2, 3], [4, 5]], pa.list_(pa.int64()))])
    found, shape = read_tensors(tokens, name="tokens")
    assert (shape, found.dtype) == ((FREE,), np.int64)
    assert found.tolist() == [[7, 0, 0], [1, 2, 3], [4, 5, 0]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0.5], [0.5, 1.0]], "'x' has lists of 1 to 2 values; they are all of one length"),
        ([[[1]], [[1], [2, 3]]], "'x' has lists of 1 to 2 values"),
        ([[1.0], None], "'x' lacks 1 values; leave these rows out"),
        ([[1.0], [None]], "'x' lacks 1 values"),
        (["a", "b"], "'x' has type string, not lists of numbers"),
    ],
)
def test_what_is_no_tensor_is_refused(values: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_tensors(pa.chunked_array([pa.array(values)]), name="x")


def test_lists_of_texts_are_no_tensors() -> None:
    kinds = (PIXELS, pa.list_(pa.float32()), pa.list_(pa.string()), pa.int64())
    assert [*map(is_tensor, kinds)] == [True, True, False, False]


def test_columns_of_tensors_are_told_without_rows() -> None:
    """Arrow makes no empty array of those that numpy made, and no such file was predicted."""
    images = pa.FixedShapeTensorArray.from_numpy_ndarray(IMAGES)
    schema = pa.table({"image": images, "digit": [1, 2, 3], "name": ["a", "b", "c"]}).schema
    found = no_rows(schema)
    assert (found.num_rows, found.schema) == (0, schema)
    assert len(found["image"].combine_chunks()) == 0
