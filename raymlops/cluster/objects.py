"""What processes of a cluster share by its object store."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, TypeVar

from raymlops.errors import ClusterError

if TYPE_CHECKING:
    from ray import ObjectRef

T = TypeVar("T")


def share(value: T, *, what: str) -> ObjectRef[T]:
    """By what every process of the connected Ray gets `value`, which is `what` to people.

    Raises:
        ClusterError: neither the store in this node's memory nor the disk beside it has room.
    """
    import ray
    from ray.exceptions import ObjectStoreFullError, OutOfDiskError

    try:
        return ray.put(value)
    except (ObjectStoreFullError, OutOfDiskError) as error:
        raise ClusterError(f"there is no room to share {what}: {_room()}") from error


def _room() -> str:
    import ray

    node_id = ray.get_runtime_context().get_node_id()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray types it not
    (own,) = (node for node in nodes if node["NodeID"] == node_id)
    socket: str = own["ObjectStoreSocketName"]  # in the folder where Ray puts what memory lacks
    disk = shutil.disk_usage(socket.rpartition("/")[0])
    return (
        f"Ray's objects have {own['Resources']['object_store_memory'] / 2**20:,.0f} MiB of this "
        f"node's memory, and of the disk of {socket}, where it puts what is beyond, "
        f"{(disk.total - disk.free) / disk.total:.0%} is taken, of which Ray takes 95 % at most: "
        "free some, or give it more memory by cluster.object_store_bytes"
    )
