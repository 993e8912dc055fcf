"""Tables and dataset versions as rows of fixed shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raymlops.data import TableSchema, add_dataset
from raymlops.data.loading import (
    Columns,
    MappedSource,
    columns_of,
    write_dataset,
    write_table,
)
from raymlops.errors import DataError
from raymlops.ledger import Ledger
from raymlops.storage import Store


def test_a_table_becomes_matrices_and_columns(tumours: pa.Table, tmp_path: Path) -> None:
    names = ("mean_radius", "mean_texture")
    write_table(tmp_path / "rows", tumours, [names, "target"])
    with MappedSource(tmp_path / "rows") as source:
        matrix, target = source.take(np.arange(569))
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, tumours.select(names).to_pandas().to_numpy(np.float32))
    np.testing.assert_array_equal(target, tumours["target"].to_numpy())


def test_a_dataset_version_becomes_the_same_file_as_its_table(
    ledger: Ledger,
    store: Store,
    tumours: pa.Table,
    tumour_schema: TableSchema,
    tmp_path: Path,
) -> None:
    dataset = add_dataset(ledger, store, tumours, tumour_schema)
    columns = [("mean_radius", "worst_area"), "target"]
    write_dataset(tmp_path / "version", store, dataset, columns)
    write_table(tmp_path / "table", tumours, columns)
    assert (tmp_path / "version").read_bytes() == (tmp_path / "table").read_bytes()


def test_lists_of_a_fixed_size_become_rows_of_that_shape(digits: Columns) -> None:
    flat = pa.array(digits[0].reshape(-1))
    table = pa.table({"pixels": pa.FixedSizeListArray.from_arrays(flat, 64)})
    (pixels,) = columns_of(table.slice(3, 2), ["pixels"])
    np.testing.assert_array_equal(pixels, digits[0][3:5].reshape(2, 64))


@pytest.mark.parametrize("kind", ["tensors", "lists"])
def test_images_keep_their_shape(digits: Columns, tmp_path: Path, kind: str) -> None:
    images = digits[0].reshape(-1, 1, 8, 8)
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(images.copy())
    if kind == "lists":
        of_lists = pa.list_(pa.list_(pa.list_(pa.from_numpy_dtype(images.dtype), 8), 8), 1)
        column = pa.array(images.tolist(), of_lists)
    table = pa.table({"image": column, "digit": digits[1]})
    (found,) = columns_of(table.slice(3, 2), ["image"])
    np.testing.assert_array_equal(found, images[3:5])
    assert found.dtype == images.dtype
    write_table(tmp_path / "rows", table, ["image", "digit"])
    with MappedSource(tmp_path / "rows") as source:
        np.testing.assert_array_equal(source.take(np.array([0, 1796]))[0], images[[0, 1796]])


def test_images_whose_axes_lie_otherwise_are_refused(digits: Columns) -> None:
    turned = digits[0].reshape(-1, 8, 8).transpose(0, 2, 1)
    table = pa.table({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(turned)})
    with pytest.raises(DataError, match="column 'image' holds tensors whose axes lie in the"):
        columns_of(table, ["image"])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("speed", "column 'speed' is missing; there are size, hole"),
        ("size", "column 'size' has type string, not numbers; encode it first"),
        ("hole", "column 'hole' misses 1 values; fill or drop them"),
    ],
)
def test_what_is_no_number_is_refused(column: str, message: str) -> None:
    table = pa.table({"size": ["large", "small"], "hole": [1.0, None]})
    with pytest.raises(DataError, match=message):
        columns_of(table, [column])
