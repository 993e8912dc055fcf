from __future__ import annotations

from pathlib import Path

import pytest

from raymlops.ledger import Ledger
from raymlops.models import Bundle
from raymlops.serve import TrafficTable
from raymlops.storage import Store
from tests.serve.conftest import VERSIONS, World, read_columns, register
from tests.serve.replica.wards import WARDS


@pytest.fixture
def wards(bundles: dict[str, Bundle], tmp_path: Path) -> World:
    """Each model in three versions, of which the champion is another one for each."""
    url, uri = f"sqlite:///{tmp_path}/ledger.db", str(tmp_path / "store")
    with Ledger(url) as ledger:
        for number, model in enumerate(WARDS):
            for bundle in bundles.values():
                register(ledger, Store(uri), model, bundle)
            table = TrafficTable.champion(model, VERSIONS[number % 3])
            ledger.releases.publish(model, table.to_dict())
    return World(url, uri, bundles, read_columns()[0])
