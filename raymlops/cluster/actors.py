"""Actors with a name: made once, found by everybody in the namespace."""

from __future__ import annotations

from typing import Any, Literal

from raymlops.cluster.settings import ClusterSettings
from raymlops.errors import ClusterError

NAMESPACE = ClusterSettings().namespace


def spawn(
    cls: type,
    name: str,
    *args: Any,
    lifetime: Literal["detached", "driver"] = "detached",
    namespace: str = NAMESPACE,
    num_cpus: float = 0,
    num_gpus: float = 0,
    max_restarts: int = -1,
    max_concurrency: int | None = None,
    lists_calls: bool = True,
    node_id: str | None = None,
) -> Any:
    """The handle of the actor `name`, made from the plain class `cls` unless it exists.

    An actor that exists is returned as it is: `args` and the options describe a new one. A
    detached actor outlives its driver. One that restarts runs `__init__` again on empty memory.
    With a `node_id` it runs on that node and on no other. Unless it `lists_calls`, they are not
    among the tasks of Ray's dashboard, and each costs caller and actor a tenth less.
    """
    return actor_class(
        cls,
        name,
        get_if_exists=True,
        lifetime=lifetime,
        namespace=namespace,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        max_restarts=max_restarts,
        max_concurrency=max_concurrency,
        lists_calls=lists_calls,
        node_id=node_id,
    ).remote(*args)


def actor_class(
    cls: type,
    name: str,
    *,
    get_if_exists: bool,
    lifetime: Literal["detached", "driver"] = "detached",
    namespace: str = NAMESPACE,
    num_cpus: float = 0,
    num_gpus: float = 0,
    max_restarts: int = -1,
    max_concurrency: int | None = None,
    lists_calls: bool = True,
    node_id: str | None = None,
) -> Any:
    """`cls` as Ray makes it an actor `name` by `remote`, with the options of `spawn`.

    Unless it gets the one that exists, making another raises Ray's ActorAlreadyExistsError.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return ray.remote(cls).options(
        name=name,
        namespace=namespace,
        get_if_exists=get_if_exists,
        lifetime="detached" if lifetime == "detached" else None,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        max_restarts=max_restarts,
        max_concurrency=max_concurrency,
        enable_task_events=lists_calls,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)
        if node_id is not None
        else None,
    )


def find(name: str, *, namespace: str = NAMESPACE) -> Any:
    """The handle of the actor `name`.

    Raises:
        ClusterError: There is none; the message names those there are.
    """
    import ray

    try:
        return ray.get_actor(name, namespace=namespace)
    except ValueError as error:
        actors = ray.util.list_named_actors(all_namespaces=True)
        names = sorted(actor["name"] for actor in actors if actor["namespace"] == namespace)
        raise ClusterError(
            f"no actor {name!r} in namespace {namespace!r}, which holds: "
            f"{', '.join(names) or 'none'}"
        ) from error
