"""Who keeps how much of a resource, by names that a person can do something about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

# Ray's names of states, as they stand in its protocol.
_ALIVE, _CREATED = 2, 2
_REPLICA = "SERVE_REPLICA::"


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Keeps `amount` of a resource: replicas, an actor that stays, or a process and all that ends
    with it."""

    name: str
    amount: float


def share_out(
    resource: str, used: float, *, actors: Iterable[Any], groups: Iterable[Any], jobs: Iterable[Any]
) -> tuple[Holder, ...]:
    """Whose the `used` amount of `resource` is, the largest holder first.

    `actors`, placement `groups` and `jobs` are rows of Ray's own tables; what a task keeps stands
    in none of them.
    """
    drivers = {job.job_id: f"process {job.driver_pid} of {job.driver_ip_address}" for job in jobs}
    amounts: dict[str, float] = defaultdict(float)
    for name, amount in (
        *_of_actors(resource, actors, drivers),
        *_of_groups(resource, groups, drivers),
    ):
        amounts[name] += amount
    amounts["tasks"] = round(used - sum(amounts.values()), 4)
    found = [Holder(name=name, amount=amount) for name, amount in amounts.items() if amount > 0]
    return tuple(sorted(found, key=lambda holder: (-holder.amount, holder.name)))


def _of_actors(
    resource: str, actors: Iterable[Any], drivers: dict[bytes, str]
) -> Iterator[tuple[str, float]]:
    for actor in actors:
        if actor.state != _ALIVE or actor.placement_group_id:  # the group's amount counts for it
            continue
        name = actor.name if actor.is_detached else drivers.get(actor.job_id, actor.class_name)
        if actor.name.startswith(_REPLICA):
            name = f"replicas of {actor.name.removeprefix(_REPLICA).partition('#')[0]}"
        yield name, actor.required_resources.get(resource, 0.0)


def _of_groups(
    resource: str, groups: Iterable[Any], drivers: dict[bytes, str]
) -> Iterator[tuple[str, float]]:
    for group in groups:
        if group.state == _CREATED:
            name = drivers.get(group.creator_job_id, group.name or "a placement group")
            yield name, sum(each.unit_resources.get(resource, 0.0) for each in group.bundles)
