"""Actors with a name: made once, found by everybody in the namespace."""

from __future__ import annotations

from typing import Any, Literal, TypedDict, Unpack

from raymlops.cluster.settings import ClusterSettings
from raymlops.errors import ClusterError

NAMESPACE = ClusterSettings().namespace


class ActorOptions(TypedDict, total=False):
    """How an actor is made; detached, without CPUs, started again for ever unless said otherwise.

    A detached actor outlives its driver. With a `node_id` it runs on that node and on no other.
    Unless it `lists_calls`, they are not among the tasks of Ray's dashboard, and each costs caller
    and actor a tenth less.
    """

    lifetime: Literal["detached", "driver"]
    namespace: str
    num_cpus: float
    num_gpus: float
    max_restarts: int
    max_concurrency: int | None
    lists_calls: bool
    node_id: str | None


def spawn(cls: type, name: str, *args: Any, **options: Unpack[ActorOptions]) -> Any:
    """The handle of the actor `name`, made from the plain class `cls` unless it exists.

    An actor that exists is returned as it is: `args` and the options describe a new one. One that
    restarts runs `__init__` again on empty memory.
    """
    return actor_class(cls, name, get_if_exists=True, **options).remote(*args)


def actor_class(
    cls: type, name: str, *, get_if_exists: bool, **options: Unpack[ActorOptions]
) -> Any:
    """`cls` as Ray makes it an actor `name` by `remote`.

    Unless it gets the one that exists, making another raises Ray's ActorAlreadyExistsError.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node_id = options.get("node_id")
    return ray.remote(cls).options(
        name=name,
        namespace=options.get("namespace", NAMESPACE),
        get_if_exists=get_if_exists,
        lifetime="detached" if options.get("lifetime", "detached") == "detached" else None,
        num_cpus=options.get("num_cpus", 0),
        num_gpus=options.get("num_gpus", 0),
        max_restarts=options.get("max_restarts", -1),
        max_concurrency=options.get("max_concurrency"),
        enable_task_events=options.get("lists_calls", True),
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
