"""Tables: what their columns mean, the rules they keep, their versions and their profiles."""

from raymlops.data.bins import Bins, CategoryBins, Counts, NumberBins
from raymlops.data.classes import Class, class_numbers, read_classes
from raymlops.data.datasets import (
    Versions,
    add_dataset,
    as_table,
    between,
    load_dataset,
    open_dataset,
    read_table,
)
from raymlops.data.expectations import check, enforce
from raymlops.data.features import (
    Column,
    Columns,
    Feature,
    read_columns,
    take,
)
from raymlops.data.grouped import GroupedColumns, Layout, num_rows
from raymlops.data.hashing import FileHasher
from raymlops.data.profile import CONFIDENCE, OUTPUTS, SCORE, Profile
from raymlops.data.rules import Finding
from raymlops.data.schema import TableSchema
from raymlops.data.sources import Source, open_source
from raymlops.data.tensors import FREE

__all__ = [
    "CONFIDENCE",
    "FREE",
    "OUTPUTS",
    "SCORE",
    "Bins",
    "CategoryBins",
    "Class",
    "Column",
    "Columns",
    "Counts",
    "Feature",
    "FileHasher",
    "Finding",
    "GroupedColumns",
    "Layout",
    "NumberBins",
    "Profile",
    "Source",
    "TableSchema",
    "Versions",
    "add_dataset",
    "as_table",
    "between",
    "check",
    "class_numbers",
    "enforce",
    "load_dataset",
    "num_rows",
    "open_dataset",
    "open_source",
    "read_classes",
    "read_columns",
    "read_table",
    "take",
]
