"""Rows on their way into a training loop: where they lie, in which order, and read ahead."""

from raymlops.data.loading.batches import Batch, Position, epoch_batches
from raymlops.data.loading.fields import Field
from raymlops.data.loading.loader import Loaded, Loader, as_arrays
from raymlops.data.loading.mapped import MappedSource
from raymlops.data.loading.order import BlockShuffle, InOrder, Order, RowShuffle
from raymlops.data.loading.ray_data import RayDataSource, stream_columns
from raymlops.data.loading.source import (
    ArraySource,
    ChunkedSource,
    Columns,
    FillingSource,
    Source,
)
from raymlops.data.loading.tables import columns_of, write_dataset, write_table
from raymlops.data.loading.tensors import Tensors
from raymlops.data.loading.writing import write_arrays, write_blocks

__all__ = [
    "ArraySource",
    "Batch",
    "BlockShuffle",
    "ChunkedSource",
    "Columns",
    "Field",
    "FillingSource",
    "InOrder",
    "Loaded",
    "Loader",
    "MappedSource",
    "Order",
    "Position",
    "RayDataSource",
    "RowShuffle",
    "Source",
    "Tensors",
    "as_arrays",
    "columns_of",
    "epoch_batches",
    "stream_columns",
    "write_arrays",
    "write_blocks",
    "write_dataset",
    "write_table",
]
