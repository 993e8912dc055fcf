"""Rows of a real Ray dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray

from raymlops.data.loading import (
    BlockShuffle,
    Loader,
    Position,
    RayDataSource,
    as_arrays,
    stream_columns,
)
from raymlops.errors import DataError

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_cluster")]

COLUMNS = [("mean_radius", "mean_texture"), "target"]


@pytest.fixture
def dataset(tumours: pa.Table) -> Any:
    """The tumours in five blocks of 114 rows, the last shorter."""
    tables = [tumours.slice(start, 114) for start in range(0, 569, 114)]
    return ray.data.from_arrow(tables)


def test_rows_are_found_by_number_here_and_on_workers(dataset: Any, tumours: pa.Table) -> None:
    source = RayDataSource.of(dataset, COLUMNS, cached_blocks=2)
    assert len(source) == 569
    rows = np.random.default_rng(0).permutation(569)[:200]
    expected = tumours.select(COLUMNS[0]).to_pandas().to_numpy(np.float32)[rows]

    @ray.remote(num_cpus=0)
    def taken(source: RayDataSource) -> Any:
        return source.take(rows)

    for matrix, target in (source.take(rows), ray.get(taken.remote(source))):
        np.testing.assert_array_equal(matrix, expected)
        np.testing.assert_array_equal(target, tumours["target"].to_numpy()[rows])
    with pytest.raises(IndexError, match=r"rows 3 to 569 were asked for, of 569"):
        source.take(np.array([3, 569]))
    empty, _ = source.take(np.empty(0, np.int64))
    assert empty.shape == (0, 2)


def test_two_workers_read_each_row_of_a_source_once(dataset: Any, tumours: pa.Table) -> None:
    source = RayDataSource.of(dataset, COLUMNS)
    order = BlockShuffle(num_rows=569, block_rows=114, window_blocks=2, seed=1)
    loaders = [
        Loader(
            source=source, order=order, deliver=as_arrays, batch_size=64, rank=rank, world_size=2
        )
        for rank in range(2)
    ]
    radii = [batch.columns[0][:, 0] for each in loaders for batch in each.epoch(Position())]
    expected = tumours["mean_radius"].to_numpy().astype(np.float32)
    np.testing.assert_array_equal(np.sort(np.concatenate(radii)), np.sort(expected))


def test_shards_are_streamed_to_workers_and_have_each_row_once(
    dataset: Any, tumours: pa.Table
) -> None:
    @ray.remote(num_cpus=0)
    def read(shard: Any) -> list[np.ndarray]:
        return [matrix for matrix, _ in stream_columns(shard, COLUMNS, batch_size=50)]

    shards = dataset.streaming_split(2, equal=False)
    batches = [batch for share in ray.get([read.remote(s) for s in shards]) for batch in share]
    assert max(map(len, batches)) == 50
    radii = np.concatenate([batch[:, 0] for batch in batches])
    expected = tumours["mean_radius"].to_numpy().astype(np.float32)
    np.testing.assert_array_equal(np.sort(radii), np.sort(expected))


def test_a_column_that_is_not_there_is_an_error_of_its_name(dataset: Any) -> None:
    with pytest.raises(DataError, match="column 'age' is missing; there are mean_radius"):
        RayDataSource.of(dataset, ["age"])


def test_numbers_that_are_whole_in_one_block_are_not_cut_in_another() -> None:
    """Each file of a CSV has types of its own: of a batch with rows of both 1.5 became 1."""
    dataset = ray.data.from_arrow([pa.table({"x": [1, 2, 3]}), pa.table({"x": [1.5, 2.5, 3.5]})])
    source = RayDataSource.of(dataset, ["x", ["x"]])
    for rows, expected in (([0, 4, 5], [1.0, 2.5, 3.5]), ([0, 1], [1.0, 2.0])):
        column, matrix = source.take(np.array(rows))
        assert (column.dtype, column.tolist()) == (np.float64, expected)
        assert (matrix.dtype, matrix[:, 0].tolist()) == (np.float32, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.bool_])
def test_images_that_numpy_made_keep_shape_and_type(dtype: Any) -> None:
    """Ray keeps them as tensors of its own, which were refused as no numbers."""
    images = (np.arange(5 * 2 * 3).reshape(5, 2, 3) % 2).astype(dtype)
    tables = ray.data.from_numpy([images[:2], images[2:]])

    (found,) = RayDataSource.of(tables, ["data"]).take(np.array([4, 0, 2]))

    assert found.dtype == dtype
    np.testing.assert_array_equal(found, images[[4, 0, 2]])
    (streamed,) = next(stream_columns(tables.iterator(), ["data"], batch_size=5))
    np.testing.assert_array_equal(streamed, images)


def test_tensors_of_several_shapes_are_refused_with_both() -> None:
    images = [np.zeros((2, 2, 3), np.float32), np.zeros((2, 4), np.float32)]
    with pytest.raises(DataError, match=r"column 'data' has rows of \[2, 3\] and \[4\]"):
        RayDataSource.of(ray.data.from_numpy(images), ["data"])


def test_a_worker_without_rows_reads_none_of_an_emptied_block() -> None:
    """It knows no columns any more, and ended the training at the last batch of an epoch."""
    dataset = ray.data.range(9, override_num_blocks=3)
    dataset = dataset.flat_map(lambda row: [row] if row["id"] >= 3 else [])
    source = RayDataSource.of(dataset, ["id"])
    (column,) = source.take(np.empty(0, np.int64))
    assert (column.shape, column.dtype) == ((0,), np.int64)
    assert source.take(np.array([0, 5]))[0].tolist() == [3, 8]


def test_a_block_without_any_value_of_a_column_is_refused_before_the_training() -> None:
    dataset = ray.data.from_items([{"late": 1.0}, {"late": None}], override_num_blocks=2)
    with pytest.raises(DataError, match="column 'late' misses all values; fill or drop them"):
        RayDataSource.of(dataset, ["late"])


def test_a_worker_that_holds_the_last_cpu_does_not_wait_for_one(dataset: Any) -> None:
    """A training that held all of them waited for ever."""
    untyped: Any = ray
    every = untyped.cluster_resources()["CPU"]

    class Worker:
        def compute(self, dataset: Any) -> None:
            while untyped.available_resources().get("CPU", 0.0):
                pass  # Ray tells late of what is taken
            RayDataSource.of(dataset, COLUMNS)

    worker = untyped.remote(Worker).options(num_cpus=every).remote()
    told = f"takes a CPU, and 0 of {every:g} are free.*call RayDataSource.of before the training"
    with pytest.raises(DataError, match=told):
        untyped.get(worker.compute.remote(dataset), timeout=60)
