"""Who may act: locks with fencing tokens."""

from raymlops.coordination.base import Coordinator, Lease
from raymlops.coordination.embedded import EmbeddedCoordinator

__all__ = ["Coordinator", "EmbeddedCoordinator", "Lease"]
