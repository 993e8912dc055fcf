"""The modes of the server: how far workers may run apart."""

from raymlops.train.server.sync.asynchronous import Asynchronous
from raymlops.train.server.sync.base import Progress, Sync
from raymlops.train.server.sync.stale import Stale
from raymlops.train.server.sync.synchronous import Synchronous

__all__ = ["Asynchronous", "Progress", "Stale", "Sync", "Synchronous"]
