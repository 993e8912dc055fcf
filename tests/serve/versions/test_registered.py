from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from raymlops.errors import NotFoundError, StorageError
from raymlops.ledger import Ledger
from raymlops.serve.versions.registered import RegisteredBundles
from raymlops.storage import Copies, CopyingStore, Store
from tests.serve.conftest import MODEL, World


def test_bundles_come_from_the_ledger(world: World) -> None:
    with Ledger(world.ledger_url) as ledger:
        bundles = RegisteredBundles(MODEL, ledger, Store(world.store_uri))
        assert bundles.load("1.0.1") == world.bundles["1.0.1"]
        with pytest.raises(NotFoundError, match=r"no tumours 9\.9\.9"):
            bundles.load("9.9.9")
        with pytest.raises(NotFoundError, match="version 'newest' is not"):
            bundles.load("newest")
        bundles.renew(("1.0.1",))  # of which no copies are kept


def test_what_is_served_for_long_is_kept_beside_what_comes(world: World, tmp_path: Path) -> None:
    """It was read once, and went first: no replica of it could start while the store was away."""
    folder = tmp_path / "copies"
    with Ledger(world.ledger_url) as ledger:
        store = CopyingStore(world.store_uri, Copies(folder=folder, max_bytes=10**9))
        bundles = RegisteredBundles(MODEL, ledger, store)
        bundles.load("1.0.0")
        served = sum(path.stat().st_size for path in folder.iterdir())
        bundles.load("1.0.1")
        for path in folder.iterdir():
            os.utime(path, (1, 1))
        bundles.renew(("1.0.0", "1.0.2"))  # the latter was never loaded here

        newcomer = b"n"
        copies = Copies(folder=folder, max_bytes=served + len(newcomer))
        copies.put(hashlib.sha256(newcomer).hexdigest(), newcomer)
        shutil.rmtree(world.store_uri)
        assert bundles.load("1.0.0") == world.bundles["1.0.0"]
        with pytest.raises(StorageError):
            bundles.load("1.0.1")
