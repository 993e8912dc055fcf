"""Who may act, and in what order: locks with fencing tokens, elections, keys, barriers, counters.

    coordinator = connect_coordinator(CoordinationSettings(), Path(".raymlops/coordination"))
    with coordinator.hold("flights", timeout_s=5) as lease:
        register.write(value, token=lease.token)

A backend is a lock and a key-value store; elections, barriers and counters are made of those.
"""

from raymlops.coordination.barrier import Barrier
from raymlops.coordination.base import Backend, Entry, Holder, KeyValue, Lease, Lock
from raymlops.coordination.coordinator import Coordinator
from raymlops.coordination.counter import Counter
from raymlops.coordination.election import Election
from raymlops.coordination.embedded import EmbeddedBackend
from raymlops.coordination.settings import CoordinationSettings, connect_coordinator
from raymlops.coordination.watch import Watch

__all__ = [
    "Backend",
    "Barrier",
    "CoordinationSettings",
    "Coordinator",
    "Counter",
    "Election",
    "EmbeddedBackend",
    "Entry",
    "Holder",
    "KeyValue",
    "Lease",
    "Lock",
    "Watch",
    "connect_coordinator",
]
