"""The versions of a model as the ledger registered them: loaded, and kept at hand on their node."""

from __future__ import annotations

from collections.abc import Iterable

from raymlops.errors import NotFoundError
from raymlops.ledger import Ledger, ModelVersion, Version
from raymlops.models import Bundle
from raymlops.storage import CopyingStore, Store


class RegisteredBundles:
    """Loads what the ledger registered as a version of `model`."""

    def __init__(self, model: str, ledger: Ledger, store: Store) -> None:
        self._model = model
        self._ledger = ledger
        self._store = store
        self._trees: dict[str, str] = {}  # by version, of those that were loaded

    def load(self, version: str) -> Bundle:
        """The bundle of `version`, verified.

        Raises:
            NotFoundError: there is no such version.
            StorageError, ModelError: as `Bundle.of_version`.
        """
        registered = self._registered(version)
        bundle = Bundle.of_version(self._store, registered)
        self._trees[version] = registered.bundle
        return bundle

    def renew(self, versions: Iterable[str]) -> None:
        """Keeps the node's copies of those of the versions that were loaded from going before
        others: a replica reads them once, and needs them again when it is started anew."""
        if isinstance(self._store, CopyingStore):
            for version in versions:
                if version in self._trees:
                    self._store.renew_tree(self._trees[version])

    def _registered(self, version: str) -> ModelVersion:
        try:
            parsed = Version.parse(version)
        except ValueError as error:
            raise NotFoundError(f"{self._model}: {error}") from error
        return self._ledger.registry.get(self._model, parsed)
