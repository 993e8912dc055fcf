"""The bundles of the versions that are watched, without their models, which nobody asks here."""

from __future__ import annotations

from dataclasses import replace

from raymlops.ledger import Ledger, Version
from raymlops.models import Bundle
from raymlops.storage import Store

_MAX_BUNDLES = 64  # in memory, half a megabyte each; the others are read again


class Bundles:
    """Versions never change, so each is read once."""

    def __init__(self, ledger: Ledger, store: Store) -> None:
        self._ledger = ledger
        self._store = store
        self._known: dict[tuple[str, str], Bundle] = {}

    def of(self, model: str, version: str) -> Bundle:
        """All that tells of a version but the bytes of its model, which may be hundreds of
        megabytes."""
        key = (model, version)
        if key not in self._known:
            row = self._ledger.registry.get(model, Version.parse(version))
            while len(self._known) >= _MAX_BUNDLES:
                del self._known[next(iter(self._known))]
            bundle = Bundle.of_version(self._store, row)
            self._known[key] = replace(bundle, model=b"", architecture=None)
        return self._known[key]
