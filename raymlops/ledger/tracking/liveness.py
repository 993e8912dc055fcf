"""Whether a run still has the process that started it.

the process, seen from its own machine    its last heartbeat       the run is
lives                                     whatever                 running (or suspended)
is gone                                   whatever                 lost
cannot be seen, or its id was given on    up to LOST_AFTER_S old   running
                                          older                    lost
                                          never sent               running
"""

from __future__ import annotations

from typing import Literal

from raymlops.ledger.records import RunStatus

Sight = Literal["lives", "gone", "unclear"]

HEARTBEAT_S = 10.0
LOST_AFTER_S = 60.0
"""Six heartbeats: longer than a database is away for a restart, or a loop holds Python's lock."""


def status_of(recorded: RunStatus, sight: Sight, heartbeat_age_s: float | None) -> RunStatus:
    """What a run is now; "lost" is never written down, since a process may come back.

    Args:
        recorded: what the ledger holds.
        sight: what became of the owning process, as far as can be seen from here.
        heartbeat_age_s: by the database's clock; None when no process ever sent one.
    """
    if recorded != "running" or sight == "lives":
        return recorded
    if sight == "gone":
        return "lost"
    return "lost" if heartbeat_age_s is not None and heartbeat_age_s > LOST_AFTER_S else "running"
