"""The ledger: the one place where everything that happened is written down."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol, Self, TypeVar

from raymlops.ledger import audit, fencing
from raymlops.ledger.audit import Audit
from raymlops.ledger.database import Database
from raymlops.ledger.datasets import Datasets
from raymlops.ledger.decisions import Decisions
from raymlops.ledger.fences import Fences
from raymlops.ledger.fencing import Fence, Held
from raymlops.ledger.house import Line, far
from raymlops.ledger.observations import Observations
from raymlops.ledger.overview import Overview
from raymlops.ledger.records import Decision
from raymlops.ledger.registry import Registry
from raymlops.ledger.releases import Releases
from raymlops.ledger.seals import Seals
from raymlops.ledger.texts import Texts
from raymlops.ledger.tracking.runs import Runs
from raymlops.ledger.trust import Trust
from raymlops.ledger.watches import Watches
from raymlops.storage import Store

_House = TypeVar("_House")


class FarEnd(Line, Protocol):
    """A line to the process beside the database, which can be hung up."""

    def close(self) -> None: ...


class Ledger:
    """The ledger at a SQLAlchemy URL; its schema is made at the first opening, that of a SQLite
    file that is opened `lazily` by the first write.

    Any number of processes on one machine may open the same SQLite file; it is in WAL mode and
    writers queue. On a cluster open it with `open_ledger`, which reaches that one file from every
    node: through `line`, when the file is elsewhere.

    Raises:
        LedgerError: the database cannot be opened or was written by another schema.
    """

    def __init__(
        self,
        url: str,
        *,
        must_exist: bool = False,
        lazily: bool = False,
        line: FarEnd | None = None,
    ) -> None:
        self.url = url
        self._end = line or Database(url, must_exist=must_exist, lazily=lazily)
        self.houses: dict[str, Any] = {}

        def house(kind: type[_House]) -> _House:
            end = self._end
            made = kind(end) if isinstance(end, Database) else far(kind, end)  # type: ignore[call-arg]
            self.houses[kind.__name__] = made
            return made

        self.datasets = house(Datasets)
        self.runs = house(Runs)
        self.registry = house(Registry)
        self.decisions = house(Decisions)
        self.releases = house(Releases)
        self.observations = house(Observations)
        self.overview = house(Overview)
        self.watches = house(Watches)
        self._texts = house(Texts)
        self._trust = house(Trust)
        self._seals = house(Seals)
        self._fences = house(Fences)

    @property
    def database(self) -> Database:
        """The connections of this process to the ledger's database."""
        assert isinstance(self._end, Database), "this ledger is reached through another process"
        return self._end

    def make(self) -> None:
        """Has the ledger be there also for processes that make none, if it was opened lazily."""
        if isinstance(self._end, Database):
            self._end.make()

    def text(self, digest: str) -> str:
        """A kept text: a configuration, an environment, a signature."""
        return self._texts.get(digest)

    def trust(self, digest: str, *, who: str, why: str) -> Decision:
        """Vouches for a digest, so that `is_recorded` is true of it; see `Trust.add`."""
        return self._trust.add(digest, who=who, why=why)

    def is_recorded(self, digest: str) -> bool:
        """Whether this ledger knows a digest: as a registered bundle, a run's artifact, a dataset's
        manifest, or because somebody vouched for it."""
        return self._trust.is_recorded(digest)

    @contextlib.contextmanager
    def fenced(self, lease: Held) -> Iterator[None]:
        """Makes every write of this thread, or task, in the block one of the holder of `lease`.

        Its token is known from the start of the block: the write of an earlier holder is refused
        from then on, and so is a block of an earlier holder.

        Raises:
            StaleLeaseError: at the start, or at any write, when a newer holder was here.
        """
        fence = Fence.of(lease)
        self._fences.admit(fence)
        with fencing.carrying(self.url, fence):
            yield

    def forget_lock(self, name: str, *, who: str, why: str) -> Decision:
        """Lets holders of a lock write again whose tokens are smaller than those seen before.

        Only for a coordinator that lost its memory and counts anew: while an earlier holder still
        runs, its writes are no longer refused.

        Raises:
            NotFoundError: no write ever carried a token of that lock.
        """
        return self._fences.forget(name, who=who, why=why)

    def verify(self, store: Store) -> Audit:
        """Checks that no decision and no row they cover was tampered with, and that `store` holds
        every artifact as it was recorded."""
        registry = self.registry
        versions = [version for model in registry.models() for version in registry.list(model)]
        trees = [(str(version), version.bundle) for version in versions] + [
            (f"dataset {dataset.name} {dataset.version}", dataset.manifest)
            for dataset in self.datasets.list()
        ]
        blobs = [
            (f"artifact '{artifact.name}' of run {run_id}", artifact.digest)
            for run_id, artifact in self.runs.all_artifacts()
        ]
        found = audit.verify(self.decisions.list(), trees=trees, blobs=blobs, store=store)
        texts = (
            f"text {each} is not what was kept: it was changed" for each in self._texts.changed()
        )
        return replace(found, problems=(*found.problems, *self._seals.broken(), *texts))

    def close(self) -> None:
        """Writes what loggers of runs still hold, and lets go of the database."""
        self.runs.close()
        self._end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
