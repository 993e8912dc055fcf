"""Waits for room that others have, not without end, and tells who has it.

Ray Train asks for its workers once a minute for ever, and says so in a log of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from raymlops.cluster.head import Head, Node, find_head
from raymlops.cluster.holders import Holder
from raymlops.cluster.resources import places
from raymlops.errors import ClusterError, NoRoomError
from raymlops.train.workers.failures import way_back

PATIENCE_S = 30 * 60.0
"""Longer than most of what ends by itself, shorter than a night in which nobody looks."""

# What workers that have just ended kept is free a moment later.
_AT_ONCE_S = 2.0
_FREED_S = 5.0
_TICK_S = 0.05
_MOST_TOLD = 4

_logger = logging.getLogger(__name__)


def wait_for_room(
    num_workers: int, each: Mapping[str, float], *, run_id: str, step: int | None = None
) -> None:
    """Returns once there is room for so many workers, which need `each` of Ray's resources; the
    run can be gone on with from `step`.

    Where there is none it queues as Ray Train does, by a placement group, which an autoscaler sees
    as well. An elastic training counts what is free when it begins: none of it is kept then.

    Raises:
        NoRoomError: others have kept it all the time; says what is needed, free, and whose, and
            how to go on.
    """
    if _is_room(num_workers, each):
        return
    _queue(num_workers, each, run_id, step)
    deadline = time.monotonic() + _FREED_S
    while not _is_room(num_workers, each) and time.monotonic() < deadline:
        time.sleep(_TICK_S)


def _queue(num_workers: int, each: Mapping[str, float], run_id: str, step: int | None) -> None:
    from ray.util.placement_group import placement_group, remove_placement_group

    group = placement_group([dict(each)] * num_workers)
    try:
        if group.wait(_AT_ONCE_S):
            return
        _logger.warning(
            "run %s: %s: it begins when there is room, and gives up after %g minutes",
            run_id,
            _room_now(num_workers, each),
            PATIENCE_S / 60,
        )
        if group.wait(PATIENCE_S):
            return
    finally:
        remove_placement_group(group)
    raise NoRoomError(
        f"run {run_id} waited {PATIENCE_S / 60:g} minutes for room: "
        f"{_room_now(num_workers, each)}; end one of those (`raymlops undeploy` replicas that need "
        f"not serve), choose a plan of fewer workers, or add machines{way_back(run_id, step)}"
    )


def _is_room(num_workers: int, each: Mapping[str, float]) -> bool:
    """Whether it is free now, as far as Ray's head knows."""
    import grpc

    try:
        nodes = [node for node in _head().nodes() if node.alive]
    except (ClusterError, grpc.RpcError):  # who queues is told
        return False
    return num_free(each, nodes) >= num_workers


def _head() -> Head:
    import ray

    return find_head(ray.get_runtime_context().gcs_address)


def _room_now(num_workers: int, each: Mapping[str, float]) -> str:
    import grpc

    try:
        head = _head()
        nodes = [node for node in head.nodes() if node.alive]
        scarce = scarcest(each, nodes)
        return told(num_workers, scarce, each[scarce], nodes, head.holders(scarce))
    except (ClusterError, grpc.RpcError) as error:  # no reason to wait no longer
        return f"{num_workers} workers need {dict(each)} each; Ray does not say who has it: {error}"


def scarcest(each: Mapping[str, float], nodes: Sequence[Node]) -> str:
    """Of which of Ray's resources the nodes have free for the fewest workers."""

    return min(each, key=lambda resource: num_free({resource: each[resource]}, nodes))


def num_free(each: Mapping[str, float], nodes: Sequence[Node]) -> int:
    """For how many workers the nodes have all of `each` free."""
    return sum(
        min(places(_free(node, resource), amount) for resource, amount in each.items())
        for node in nodes
    )


def told(
    num_workers: int, resource: str, each: float, nodes: Sequence[Node], holders: Sequence[Holder]
) -> str:
    """What so many workers need of a resource, what is free of it where, and who has the rest."""
    having = sorted(
        (node for node in nodes if node.total.get(resource)), key=lambda n: -_free(n, resource)
    )
    free = [f"{_free(n, resource):g} of {n.total[resource]:g} on {n.host}" for n in having]
    kept = [f"{holder.amount:g} by {holder.name}" for holder in holders]
    needed = f"{num_workers} workers need" if num_workers > 1 else "a worker needs"
    text = f"{needed} {each:g} {resource}s{' each' * (num_workers > 1)}, free are {_listed(free)}"
    return f"{text}; kept are {_listed(kept)}" if kept else text


def _free(node: Node, resource: str) -> float:
    return round(node.total.get(resource, 0.0) - node.used.get(resource, 0.0), 4)


def _listed(parts: Sequence[str]) -> str:
    more = len(parts) - _MOST_TOLD
    shown = ", ".join(parts[:_MOST_TOLD])
    return f"{shown} and {more} more" if more > 0 else shown
