"""What fits on the processors of a cluster, and how an update goes where they are short."""

from __future__ import annotations

import pytest

from raymlops.errors import ClusterError
from raymlops.serve.deployment.room import (
    Claim,
    cpus_needed_first,
    require_not_taken,
    surge_percent,
)


def claim(num_replicas: int, num_cpus: float) -> Claim:
    return Claim(num_replicas=num_replicas, num_cpus=num_cpus)


@pytest.mark.parametrize(
    ("wanted", "running", "nodes", "free", "percent"),
    [
        (claim(2, 1.0), None, [2.0], 2.0, 100),
        (claim(2, 1.0), None, [0.0, 1.0, 1.0], 0.0, 100),  # others may end
        (claim(9, 0.0), claim(9, 0.0), [1.0], 0.0, 100),
        (claim(10, 0.1), None, [1.0], 1.0, 100),  # 1 // 0.1 is 9
        (claim(3, 0.1), None, [0.3], 0.3, 100),  # 0.3 / 0.1 is less than 3
        (claim(1, 1.0), claim(1, 1.0), [2.0], 1.0, 100),
        (claim(2, 1.0), claim(2, 1.0), [3.0], 1.0, 100),
        (claim(1, 1.0), claim(2, 1.0), [2.0], 0.0, 100),  # one of the two old ones goes first
        (claim(1, 1.0), claim(1, 1.0), [2.0], 0.0, 100),
        (claim(2, 1.0), claim(2, 1.0), [2.0], 0.0, 0),
        (claim(2, 1.0), claim(2, 1.0), [8.0], 0.5, 0),
        (claim(4, 1.0), claim(2, 1.0), [4.0], 2.0, 0),
    ],
)
def test_an_update_runs_new_replicas_beside_the_old_or_in_their_places(
    wanted: Claim, running: Claim | None, nodes: list[float], free: float, percent: int
) -> None:
    """Two replicas on two CPUs were to run beside two others, and Serve waited for ever."""
    assert surge_percent(wanted, running, node_cpus=nodes, free_cpus=free) == percent


@pytest.mark.parametrize(
    ("wanted", "running", "nodes", "message"),
    [
        (claim(1, 50.0), None, [2.0, 4.0], r"needs 50 CPUs \(serve.num_cpus\), the .* node has 4"),
        (claim(1, 1.0), None, [], "the largest node has 0"),
        (claim(4, 1.5), None, [4.0, 2.0], r"^4 replicas .* of 1.5 CPUs .* has room for 3"),
        (claim(1, 1.0), claim(1, 1.0), [1.0], "takes 2 CPUs, and the cluster has 1: .*undeploy"),
        (claim(1, 1.5), claim(1, 1.0), [2.0], r"takes 2\.5 CPUs, and the cluster has 2"),
        (claim(2, 1.0), claim(1, 1.0), [2.0], "takes 3 CPUs, and the cluster has 2"),
    ],
)
def test_what_never_fits_is_refused_with_both_numbers(
    wanted: Claim, running: Claim | None, nodes: list[float], message: str
) -> None:
    with pytest.raises(ClusterError, match=message):
        surge_percent(wanted, running, node_cpus=nodes, free_cpus=0.0)


def test_what_waits_for_others_is_told_apart_from_what_makes_its_own_room() -> None:
    two = claim(2, 1.0)
    assert cpus_needed_first(two, None, 100) == 2.0
    assert cpus_needed_first(two, two, 100) == 1.0
    assert cpus_needed_first(two, two, 0) == 0.0
    assert cpus_needed_first(claim(1, 1.0), two, 100) == 0.0


def test_cpus_that_other_models_keep_are_not_waited_for() -> None:
    """Serve waited for them until somebody undeployed one of the others."""
    one = Claim(num_replicas=1, num_cpus=1.0)
    others = {"flights": Claim(num_replicas=2, num_cpus=0.5), "rain": one}
    require_not_taken(1.0, None, others, total_cpus=3.0)
    require_not_taken(0.0, one, others, total_cpus=3.0)
    require_not_taken(1.0, one, {}, total_cpus=1.0)  # those of a training come back
    with pytest.raises(ClusterError) as refused:
        require_not_taken(1.0, one, others, total_cpus=3.0)
    assert str(refused.value) == (
        "new replicas need 1 CPUs (serve.num_cpus), and of the cluster's 3 others keep theirs "
        "(flights 1, rain 1, what is to be replaced 1): undeploy one of them, set serve.num_cpus "
        "or serve.num_replicas to less, or add nodes"
    )
