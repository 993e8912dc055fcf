"""Datasets of the workspace: adding rows, checking them, finding the newest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from raymlops import data
from raymlops.data import FileHasher, Finding, Source
from raymlops.errors import NotFoundError
from raymlops.ledger import Dataset
from raymlops.operate.workspace import Workspace


def add_data(
    workspace: Workspace,
    what: pa.Table | str | Path | Sequence[str | Path],
    *,
    description: str = "",
    version: int | None = None,
    at: datetime | None = None,
) -> Dataset:
    """Checks rows and adds them as a dataset version: a table, a Parquet or CSV file, a folder or
    list of them, a DVC pointer, or a Delta table, of which `version` or `at` choose a state.

    Raises:
        ExpectationError: names column, rule and count of everything that is wrong with it.
    """
    return data.add_dataset(
        workspace.ledger,
        workspace.store,
        _source(workspace, what, version, at),
        workspace.schema,
        description=description,
    )


def check_data(
    workspace: Workspace,
    what: pa.Table | str | Path | Sequence[str | Path],
    *,
    version: int | None = None,
    at: datetime | None = None,
) -> tuple[Finding, ...]:
    """Every rule of the workspace's table, checked on what `add_data` takes; adds nothing."""
    schema = workspace.schema
    references = data.Versions(workspace.ledger, workspace.store, schema.dataset)
    return data.check(_source(workspace, what, version, at), schema, references)


def newest_data(workspace: Workspace) -> Dataset:
    """The newest version of the workspace's dataset.

    Raises:
        NotFoundError: nothing was added yet.
    """
    try:
        return workspace.ledger.datasets.get(workspace.schema.dataset)
    except NotFoundError as error:
        raise NotFoundError(
            f"{error}: add one by `raymlops data add FILE CONFIG`, or train with --data FILE"
        ) from error


def _source(
    workspace: Workspace,
    what: pa.Table | str | Path | Sequence[str | Path],
    version: int | None,
    at: datetime | None,
) -> Source:
    hasher = FileHasher(workspace.home / "cache" / "digests.db")
    texts = workspace.schema.texts
    return data.open_source(what, hasher=hasher, version=version, at=at, texts=texts)
