"""Datasets by name and version, and the rules that were checked on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One version of a named table; `digest` is over its content, `manifest` names its blobs.

    `format` is parquet, or delta: then the store holds the list of files, not the files. `source`
    says where it came from, `statistics` has a mapping a column, as `data.statistics` writes it.
    """

    name: str
    version: int
    digest: str
    manifest: str
    fields: tuple[tuple[str, str], ...]
    num_rows: int
    size_bytes: int
    description: str
    created_at: datetime
    format: str
    source: Mapping[str, Any] | None
    statistics: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One rule, checked on the content `digest`, whether or not it became a version."""

    dataset_name: str
    digest: str
    column: str
    rule: str
    num_broken: int
    num_rows: int
    examples: tuple[str, ...]
    at: datetime

    @property
    def passed(self) -> bool:
        return self.num_broken == 0
