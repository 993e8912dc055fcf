from __future__ import annotations

from tests.serve.conftest import World


def test_the_warm_up_rows_are_like_real_ones(world: World) -> None:
    columns = world.bundles["1.0.0"].sample(32)
    world.bundles["1.0.0"].signature.check(columns)
    assert {*columns["size"]} == {"large", "small"}
    assert columns["radius"].min() >= world.columns["radius"].min()
