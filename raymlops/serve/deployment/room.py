"""Whether the processors of a cluster have room for replicas, and for new ones beside the old."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raymlops.cluster.resources import places
from raymlops.errors import ClusterError

_BESIDE_PERCENT = 100
_IN_PLACE_PERCENT = 0


@dataclass(frozen=True, kw_only=True)
class Claim:
    """So many replicas, each of which takes so many CPUs."""

    num_replicas: int
    num_cpus: float


def surge_percent(
    wanted: Claim, running: Claim | None, *, node_cpus: Sequence[float], free_cpus: float
) -> int:
    """How many replicas an update may run beyond those that are `wanted`, in percent of them.

    None where CPUs are short and there are several: each new one then takes the place of an old
    one, whose clients the others answer meanwhile. A single one goes when the next one answers.

    Raises:
        ClusterError: they never fit on nodes of that many CPUs; Serve would wait for ever.
    """
    _require_room(wanted, node_cpus)
    if running is None:
        return _BESIDE_PERCENT
    beside, total = _cpus_beside(wanted, running), sum(node_cpus)
    if beside <= total and wanted.num_cpus <= free_cpus:
        return _BESIDE_PERCENT
    if min(wanted.num_replicas, running.num_replicas) > 1:
        return _IN_PLACE_PERCENT
    if beside > total:
        raise ClusterError(
            f"an update runs a new replica beside what answers, which takes {beside:g} CPUs, and "
            f"the cluster has {total:g}: set serve.num_cpus to less, or undeploy first"
        )
    return _BESIDE_PERCENT


def cpus_needed_first(wanted: Claim, running: Claim | None, surge: int) -> float:
    """What must be free before Serve ends a replica that runs, or before all run at first."""
    if running is None:
        return wanted.num_replicas * wanted.num_cpus
    ends_one_first = surge == _IN_PLACE_PERCENT or running.num_replicas > wanted.num_replicas
    return 0.0 if ends_one_first else wanted.num_cpus


def require_not_taken(
    needed_cpus: float, running: Claim | None, others: Mapping[str, Claim], *, total_cpus: float
) -> None:
    """Raises ClusterError where what `others` keep, by application, never leaves `needed_cpus`
    beside what is `running`: they end when somebody undeploys them, and Serve waits for that."""
    own = 0.0 if running is None else running.num_replicas * running.num_cpus
    taken = {name: claim.num_replicas * claim.num_cpus for name, claim in others.items()}
    left = total_cpus - own - sum(taken.values())
    if needed_cpus == 0.0 or round(needed_cpus - left, 4) <= 0.0:
        return
    kept = ", ".join(f"{name} {cpus:g}" for name, cpus in sorted(taken.items()) if cpus)
    if not kept:  # what else has them may end
        return
    beside = f", what is to be replaced {own:g}" if own else ""
    raise ClusterError(
        f"new replicas need {needed_cpus:g} CPUs (serve.num_cpus), and of the cluster's "
        f"{total_cpus:g} others keep theirs ({kept}{beside}): undeploy one of them, set "
        "serve.num_cpus or serve.num_replicas to less, or add nodes"
    )


def _require_room(wanted: Claim, node_cpus: Sequence[float]) -> None:
    largest = max(node_cpus, default=0.0)
    if wanted.num_cpus > largest:
        raise ClusterError(
            f"a replica needs {wanted.num_cpus:g} CPUs (serve.num_cpus), the largest node has "
            f"{largest:g}: set it to less, or add a larger node"
        )
    if wanted.num_cpus == 0:
        return
    room = sum(places(cpus, wanted.num_cpus) for cpus in node_cpus)
    if wanted.num_replicas > room:
        raise ClusterError(
            f"{wanted.num_replicas} replicas (serve.num_replicas) of {wanted.num_cpus:g} CPUs "
            f"(serve.num_cpus) are asked for, the cluster has room for {room}: set one of them "
            "to less, or add nodes"
        )


def _cpus_beside(wanted: Claim, running: Claim) -> float:
    """The most that an update takes at a time.

    Serve ends an old replica only when one more runs than is wanted, old and new together: while
    most of them are old, and again when all but one are new.
    """
    most_old = min(wanted.num_replicas, running.num_replicas)
    return max(
        num_old * running.num_cpus + (wanted.num_replicas + 1 - num_old) * wanted.num_cpus
        for num_old in (1, most_old)
    )
