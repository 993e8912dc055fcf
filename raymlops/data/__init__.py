"""Tables: what their columns mean, the rules they keep, their versions and their profiles."""

from raymlops.data.datasets import add_dataset, between, load_dataset, read_table
from raymlops.data.expectations import check, enforce
from raymlops.data.features import (
    Column,
    Columns,
    Feature,
    TableSchema,
    num_rows,
    read_columns,
    take,
)
from raymlops.data.profile import SCORE, Bins, CategoryBins, Counts, NumberBins, Profile

__all__ = [
    "SCORE",
    "Bins",
    "CategoryBins",
    "Column",
    "Columns",
    "Counts",
    "Feature",
    "NumberBins",
    "Profile",
    "TableSchema",
    "add_dataset",
    "between",
    "check",
    "enforce",
    "load_dataset",
    "num_rows",
    "read_columns",
    "read_table",
    "take",
]
