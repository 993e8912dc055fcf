"""The ledger: the one place where everything that happened is written down."""

from __future__ import annotations

from raymlops.ledger import audit, texts
from raymlops.ledger.audit import Audit
from raymlops.ledger.database import Database
from raymlops.ledger.datasets import Datasets
from raymlops.ledger.decisions import Decisions
from raymlops.ledger.observations import Observations
from raymlops.ledger.registry import Registry
from raymlops.ledger.releases import Releases
from raymlops.ledger.runs import Runs
from raymlops.storage import Store


class Ledger:
    """The ledger at a SQLAlchemy URL; its schema is made at the first opening.

    Any number of processes on one machine may open the same SQLite file; it is in WAL mode and
    writers queue.

    Raises:
        LedgerError: the database cannot be opened or was written by another schema.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._database = Database(url)
        self.datasets = Datasets(self._database)
        self.runs = Runs(self._database)
        self.registry = Registry(self._database)
        self.decisions = Decisions(self._database)
        self.releases = Releases(self._database)
        self.observations = Observations(self._database)

    def text(self, digest: str) -> str:
        """A kept text: a configuration, an environment, a signature."""
        return texts.read(self._database, digest)

    def verify(self, store: Store) -> Audit:
        """Checks that no decision was tampered with, and that `store` holds every artifact
        as it was recorded."""
        registry = self.registry
        versions = [version for model in registry.models() for version in registry.list(model)]
        datasets = self.datasets.list()
        artifacts = [(str(version), version.bundle) for version in versions] + [
            (f"dataset {dataset.name} {dataset.version}", dataset.manifest) for dataset in datasets
        ]
        return audit.verify(self.decisions.list(), artifacts, store)

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
