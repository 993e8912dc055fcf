"""How much, and how slowly, a client may send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from raymlops.config import check_durations

T = TypeVar("T")

_LONG_S = 5.0


class Phase(Enum):
    """Where a connection is in what it reads."""

    IDLE = "idle"  # between requests
    HEAD = "head"  # a request line or header is not complete
    BODY = "body"  # a body is not complete
    DONE = "done"  # nothing more is read


@dataclass(frozen=True, kw_only=True)
class HttpLimits:
    """What one client may use of a server. Times are kept to about half a second."""

    max_head_bytes: int = 16 * 1024
    max_headers: int = 64
    max_body_bytes: int = 8 * 1024 * 1024
    max_pipelined: int = 64
    head_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    stall_timeout_s: float = 10.0
    send_timeout_s: float = 30.0
    idle_timeout_s: float = 75.0
    max_connections: int = 20_000

    def __post_init__(self) -> None:
        check_durations(self, *(name for name in vars(self) if name.endswith("_s")))
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"{name} is {value}, it must be positive")


def surplus(sizes: Mapping[T, int], limit: int) -> list[T]:
    """The largest of `sizes`, so many that the others are within `limit` together."""
    left, found = sum(sizes.values()), []
    for each in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if left <= limit:
            break
        left -= sizes[each]
        found.append(each)
    return found


def idlest(idle_s: Mapping[T, float], number: int) -> list[T]:
    """Those `number` of them that idle longest, and long enough to be ended for others' sake."""
    known = [each for each, seconds in idle_s.items() if seconds >= _LONG_S]
    return sorted(known, key=idle_s.__getitem__, reverse=True)[:number]


def overdue(phase: Phase, *, in_phase_s: float, silent_s: float, limits: HttpLimits) -> str | None:
    """Why a connection that has been `in_phase_s` in `phase`, and said nothing for `silent_s`,
    must end; None while it may go on."""
    match phase:
        case Phase.IDLE if in_phase_s >= limits.idle_timeout_s:
            return f"no request for {limits.idle_timeout_s:g} s"
        case Phase.HEAD if in_phase_s >= limits.head_timeout_s:
            return f"the head took over {limits.head_timeout_s:g} s"
        case Phase.BODY if silent_s >= limits.stall_timeout_s:
            return f"no byte of the body for {limits.stall_timeout_s:g} s"
        case Phase.BODY if in_phase_s >= limits.body_timeout_s:
            return f"the body took over {limits.body_timeout_s:g} s"
        case _:
            return None
