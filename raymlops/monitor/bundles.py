"""The bundles of the versions that are watched, as long as they are looked at."""

from __future__ import annotations

from raymlops.ledger import Ledger, Version
from raymlops.models import Bundle
from raymlops.storage import Store

_MAX_BUNDLES = 16  # in memory; the others are read again


class Bundles:
    """Versions never change, so each is read once."""

    def __init__(self, ledger: Ledger, store: Store) -> None:
        self._ledger = ledger
        self._store = store
        self._known: dict[tuple[str, str], Bundle] = {}

    def of(self, model: str, version: str) -> Bundle:
        key = (model, version)
        if key not in self._known:
            row = self._ledger.registry.get(model, Version.parse(version))
            while len(self._known) >= _MAX_BUNDLES:
                del self._known[next(iter(self._known))]
            self._known[key] = Bundle.of_version(self._store, row)
        return self._known[key]
