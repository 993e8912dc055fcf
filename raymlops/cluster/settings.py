"""How this process reaches Ray."""

from __future__ import annotations

from dataclasses import dataclass

from raymlops.cluster.address import split_address

LOCAL = "local"
AUTO = "auto"

# Ray refuses an object store smaller than this.
_MIN_OBJECT_STORE_BYTES = 75 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """Which Ray to use, and how large a private one may grow.

    `address` is "local" (a private Ray that ends with this process), "auto" (RAY_ADDRESS where
    it is set, as in a submitted job, else the cluster `raymlops up` recorded) or HOST:PORT. None
    is "auto" where there is such a cluster, else "local".
    The sizes and `dashboard` describe, and so ask for, a private Ray; None leaves the choice of a
    size to Ray.
    """

    address: str | None = None
    num_cpus: int | None = None
    dashboard: bool = False
    namespace: str = "raymlops"
    object_store_bytes: int | None = None

    def __post_init__(self) -> None:
        if not self.namespace:
            raise ValueError("namespace is empty: actors could not be found by name")
        if self.num_cpus is not None and self.num_cpus < 1:
            raise ValueError(f"num_cpus is {self.num_cpus}, at least 1 is needed")
        store = self.object_store_bytes
        if store is not None and store < _MIN_OBJECT_STORE_BYTES:
            raise ValueError(f"object_store_bytes is {store}, Ray needs {_MIN_OBJECT_STORE_BYTES}")
        if self.address is None or self.address == LOCAL:
            return
        if self.address != AUTO:
            split_address(self.address)
        if self.is_sized:
            raise ValueError(
                f"num_cpus, object_store_bytes and dashboard size a private Ray, but address is "
                f"{self.address!r}: leave them out, or set address to {LOCAL!r}"
            )

    @property
    def is_sized(self) -> bool:
        """Whether anything is said that only holds for a private Ray."""
        sizes = (self.num_cpus, self.object_store_bytes)
        return self.dashboard or any(size is not None for size in sizes)
