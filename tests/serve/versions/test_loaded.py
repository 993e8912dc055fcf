from __future__ import annotations

import pytest

from raymlops.errors import NotFoundError
from raymlops.ledger import Ledger
from raymlops.serve.versions.loaded import bundle_loader
from raymlops.storage import Store
from tests.serve.conftest import MODEL, World


def test_the_warm_up_rows_are_like_real_ones(world: World) -> None:
    columns = world.bundles["1.0.0"].sample(32)
    world.bundles["1.0.0"].signature.check(columns)
    assert {*columns["size"]} == {"large", "small"}
    assert columns["radius"].min() >= world.columns["radius"].min()


def test_bundles_come_from_the_ledger(world: World) -> None:
    with Ledger(world.ledger_url) as ledger:
        load = bundle_loader(MODEL, ledger, Store(world.store_uri))
        assert load("1.0.1") == world.bundles["1.0.1"]
        with pytest.raises(NotFoundError, match=r"no tumours 9\.9\.9"):
            load("9.9.9")
        with pytest.raises(NotFoundError, match="version 'newest' is not"):
            load("newest")
