"""Runs and metrics a page at a time, so that an export of millions needs no more memory."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, select, true

from raymlops.errors import NotFoundError
from raymlops.ledger import schema
from raymlops.ledger.database import Database
from raymlops.ledger.ledger import Ledger
from raymlops.ledger.schema import metrics, run_inputs, runs
from raymlops.ledger.tracking import params

_PAGE_RUNS = 500
_PAGE_METRICS = 50_000


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, and the files it was written to."""

    num_runs: int
    num_metrics: int
    files: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """Rows of the table `runs`, and by run id what belongs to them."""

    rows: Sequence[Row[Any]]
    params: Mapping[str, Mapping[str, Any]]
    tags: Mapping[str, Mapping[str, str]]
    inputs: Mapping[str, Sequence[Row[Any]]]


class Rows:
    """Reads all runs, or those of `model`, or of `run_ids`, in the order of their ids."""

    def __init__(
        self, database: Database, *, model: str | None, run_ids: Sequence[str] | None
    ) -> None:
        self._database = database
        self._model = model
        self._run_ids = run_ids

    def runs(self) -> Iterator[RunPage]:
        last = ""
        while rows := self._read(
            select(runs)
            .where(self._chosen(), runs.c.id > last)
            .order_by(runs.c.id)
            .limit(_PAGE_RUNS)
        ):
            last = rows[-1].id
            yield self._page(rows)

    def metrics(self, run_id: str | None = None) -> Iterator[Sequence[Row[Any]]]:
        """The chosen runs' metrics, or those of one run, in the order they were written in."""
        columns = metrics.c
        if run_id is not None:
            of = columns.run_id == run_id
        elif self._model is None and self._run_ids is None:
            of = true()
        else:
            of = columns.run_id.in_(select(runs.c.id).where(self._chosen()))
        last = 0
        while rows := self._read(
            select(metrics).where(of, columns.id > last).order_by(columns.id).limit(_PAGE_METRICS)
        ):
            last = rows[-1].id
            yield rows

    def _chosen(self) -> ColumnElement[bool]:
        named = true() if self._run_ids is None else runs.c.id.in_(self._run_ids)
        return named if self._model is None else and_(named, runs.c.model == self._model)

    def _page(self, rows: Sequence[Row[Any]]) -> RunPage:
        ids = [row.id for row in rows]
        tags: dict[str, dict[str, str]] = defaultdict(dict)
        for row in self._read(select(schema.tags).where(schema.tags.c.run_id.in_(ids))):
            tags[row.run_id][row.name] = row.value
        inputs: dict[str, list[Row[Any]]] = defaultdict(list)
        for row in self._read(select(run_inputs).where(run_inputs.c.run_id.in_(ids))):
            inputs[row.run_id].append(row)
        with self._database.read() as connection:
            held = params.read(connection, ids)
        return RunPage(rows=rows, params=held, tags=tags, inputs=inputs)

    def _read(self, query: Select[Any]) -> Sequence[Row[Any]]:
        with self._database.read() as connection:
            return connection.execute(query).all()


@contextlib.contextmanager
def reading(ledger: Ledger, *, model: str | None, run_ids: Sequence[str] | None) -> Iterator[Rows]:
    """Raises NotFoundError when there is no such run, or no run of such a model."""
    for run_id in run_ids or ():
        ledger.runs.get(run_id)
    if model is not None and not ledger.runs.list(model=model):
        raise NotFoundError(f"the ledger holds no run of model '{model}'; see `raymlops runs list`")
    database = Database(ledger.url)
    try:
        yield Rows(database, model=model, run_ids=run_ids)
    finally:
        database.close()
