"""The contract of every routing policy, and what each promises beyond it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymlops.serve.routing import (
    POLICIES,
    ConsistentHash,
    LeastConnections,
    PowerOfTwo,
    ReplicaLoad,
    RoundRobin,
    RoutingPolicy,
    WeightedRoundRobin,
    policy_named,
)

names = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=12, unique=True)
loads = st.lists(
    st.builds(
        ReplicaLoad,
        name=st.text(max_size=8),
        in_flight=st.integers(0, 100),
        weight=st.floats(0.1, 10.0),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda load: load.name,
)


def idle(*names: str) -> list[ReplicaLoad]:
    return [ReplicaLoad(name=name) for name in names]


def choices(policy: RoutingPolicy, replicas: Sequence[ReplicaLoad], number: int) -> list[str]:
    return [policy.choose(replicas, f"key-{i}").name for i in range(number)]


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=25)
@given(calls=st.lists(loads, min_size=1, max_size=5), key=st.text())
def test_any_policy_orders_whoever_is_there_now(
    name: str, calls: list[list[ReplicaLoad]], key: str
) -> None:
    policy = policy_named(name)
    for replicas in calls:
        assert policy.choose(replicas, key) in replicas
        order = policy.order(replicas, key)
        assert sorted(order, key=lambda each: each.name) == sorted(
            replicas, key=lambda each: each.name
        )


@pytest.mark.parametrize("name", POLICIES)
def test_no_policy_chooses_among_nobody(name: str) -> None:
    with pytest.raises(ValueError, match="no replica to choose"):
        policy_named(name).order([], "anna")


def test_an_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no routing policy 'fastest'; there are round_robin, "):
        policy_named("fastest")


def test_a_weight_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="replica a has weight 0"):
        ReplicaLoad(name="a", weight=0)


@given(names=names, rounds=st.integers(1, 5))
def test_round_robin_is_exact(names: list[str], rounds: int) -> None:
    chosen = choices(RoundRobin(), idle(*names), rounds * len(names))
    assert Counter(chosen) == dict.fromkeys(names, rounds)


def test_round_robin_keeps_turns_while_replicas_come_and_go() -> None:
    policy = RoundRobin()
    assert choices(policy, idle("a", "b", "c"), 4) == ["a", "b", "c", "a"]
    assert choices(policy, idle("b", "c"), 3) == ["b", "c", "b"]
    assert choices(policy, idle("b", "c", "d"), 4) == ["d", "c", "b", "d"]


def test_weighted_round_robin_is_smooth() -> None:
    replicas = [
        ReplicaLoad(name="a", weight=5.0), ReplicaLoad(name="b"), ReplicaLoad(name="c")
    ]  # fmt: skip
    assert "".join(choices(WeightedRoundRobin(), replicas, 7)) == "aabacaa"


@given(weights=st.lists(st.integers(1, 9), min_size=1, max_size=6), rounds=st.integers(1, 3))
def test_weighted_round_robin_is_exact(weights: list[int], rounds: int) -> None:
    replicas = [ReplicaLoad(name=str(i), weight=weight) for i, weight in enumerate(weights)]
    chosen = Counter(choices(WeightedRoundRobin(), replicas, rounds * sum(weights)))
    assert chosen == {str(i): rounds * weight for i, weight in enumerate(weights)}


@given(replicas=loads)
def test_least_connections_takes_the_least_pressed(replicas: list[ReplicaLoad]) -> None:
    chosen = LeastConnections().choose(replicas, "anna")
    assert chosen.pressure == min(each.pressure for each in replicas)


def test_least_connections_lets_equals_take_turns() -> None:
    assert choices(LeastConnections(), idle("a", "b", "c"), 6) == ["a", "b", "c"] * 2


@given(replicas=loads, seed=st.integers())
def test_two_choices_never_take_the_most_pressed_alone(
    replicas: list[ReplicaLoad], seed: int
) -> None:
    chosen = PowerOfTwo(random.Random(seed)).choose(replicas, "anna")
    worse = [each for each in replicas if each.pressure >= chosen.pressure]
    assert len(replicas) == 1 or len(worse) >= 2


def test_two_choices_keep_the_longest_queue_short() -> None:
    """As many requests as replicas: about log log n, where one choice has log n / log log n."""

    def longest(policy: RoutingPolicy, num_replicas: int = 1000) -> int:
        queues = Counter({str(i): 0 for i in range(num_replicas)})
        for _ in range(num_replicas):
            pair = [ReplicaLoad(name=n, in_flight=queues[n]) for n in rng.sample(sorted(queues), 2)]
            queues[policy.choose(pair, "").name] += 1
        return max(queues.values())

    rng = random.Random(7)
    assert longest(PowerOfTwo(rng)) <= 4 < longest(RoundRobin())


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 5, 10, 20])
def test_a_replica_that_joins_takes_its_share_and_moves_no_other_key(num_replicas: int) -> None:
    policy = ConsistentHash()
    keys = [f"session-{i}" for i in range(4000)]
    before = idle(*(f"replica-{i}" for i in range(num_replicas)))
    after = [*before, ReplicaLoad(name="new")]
    moved = 0
    for key in keys:
        old, new = policy.choose(before, key).name, policy.choose(after, key).name
        if old != new:
            assert new == "new"
            moved += 1
    assert moved / len(keys) <= 1 / (num_replicas + 1) + 0.05
    assert moved / len(keys) >= 1 / (num_replicas + 1) - 0.05


@given(names=names, key=st.text(), data=st.data())
def test_a_session_stays_wherever_its_replica_is_listed(
    names: list[str], key: str, data: st.DataObject
) -> None:
    chosen = ConsistentHash().choose(idle(*names), key).name
    others = data.draw(st.lists(st.sampled_from(names), unique=True))
    left = idle(*dict.fromkeys(data.draw(st.permutations([*others, chosen]))))
    assert ConsistentHash().choose(left, key).name == chosen


def test_sessions_are_spread_by_weight() -> None:
    replicas = [ReplicaLoad(name="a", weight=3.0), ReplicaLoad(name="b"), ReplicaLoad(name="c")]
    chosen = Counter(choices(ConsistentHash(), replicas, 5000))
    assert chosen["a"] / 5000 == pytest.approx(0.6, abs=0.03)
    assert chosen["b"] / 5000 == pytest.approx(0.2, abs=0.03)


def test_the_second_choice_of_a_session_is_where_it_would_move() -> None:
    policy, replicas = ConsistentHash(), idle("a", "b", "c", "d")
    for i in range(100):
        first, second, *_ = policy.order(replicas, f"key-{i}")
        left = [each for each in replicas if each is not first]
        assert policy.choose(left, f"key-{i}") == second
