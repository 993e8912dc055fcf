from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.serve import Arm, TrafficTable


def table(*shares: float, salt: str = "") -> TrafficTable:
    arms = tuple(
        Arm(name=f"arm-{i}", version=f"1.0.{i}", share=share) for i, share in enumerate(shares)
    )
    return TrafficTable(model="m", arms=arms, salt=salt)


def test_shares_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match=r"add up to 0\.9, not to 1"):
        table(0.5, 0.4)
    table(0.1, 0.2, 0.7)  # 0.9999999999999999 in floating point


def test_two_arms_of_one_name_are_refused() -> None:
    arm = Arm(name="champion", version="1.0.0", share=0.5)
    with pytest.raises(ValueError, match="two arms named champion"):
        TrafficTable(model="m", arms=(arm, arm))


def test_a_key_keeps_its_arm_in_every_process_and_release() -> None:
    split = table(0.5, 0.5, salt="2013")
    assert "".join(split.arm_of(f"user-{i}").name[-1] for i in range(12)) == "111010001100"


@given(
    before=st.floats(0.0, 0.99),
    growth=st.floats(0.0, 1.0),
    others=st.floats(0.01, 0.99),
    keys=st.lists(st.text(), min_size=1),
)
def test_a_growing_canary_only_gains_keys(
    before: float, growth: float, others: float, keys: list[str]
) -> None:
    after = before + (1.0 - before) * growth
    small, large = (
        table(others * (1 - share), (1 - others) * (1 - share), share) for share in (before, after)
    )
    for key in keys:
        if small.arm_of(key) != large.arm_of(key):
            old, new = small.arm_of(key).name, large.arm_of(key).name
            assert old == new or new == "arm-2"


@pytest.mark.parametrize("shares", [(0.99, 0.01), (0.5, 0.5), (0.2, 0.3, 0.5)])
def test_arms_get_their_shares(shares: tuple[float, ...]) -> None:
    split = table(*shares)
    counts = Counter(split.arm_of(f"key-{i}").name for i in range(20_000))
    for arm in split.arms:
        assert counts[arm.name] / 20_000 == pytest.approx(arm.share, abs=0.015)


def test_an_arm_without_a_share_answers_no_key() -> None:
    split = table(1.0, 0.0)
    assert {split.arm_of(f"key-{i}").name for i in range(1000)} == {"arm-0"}
    assert split.versions == ("1.0.0", "1.0.1")


def test_another_salt_deals_the_keys_out_anew() -> None:
    one, other = table(0.5, 0.5, salt="one"), table(0.5, 0.5, salt="other")
    moved = sum(one.arm_of(f"key-{i}") != other.arm_of(f"key-{i}") for i in range(1000))
    assert moved == pytest.approx(500, abs=80)


def test_a_table_survives_the_ledger() -> None:
    split = table(0.25, 0.75, salt="s")
    assert TrafficTable.from_dict(split.to_dict()) == split
