"""When a request is sent again, and after how long; no clock, no network."""

from __future__ import annotations

import math
from dataclasses import dataclass

from raymlops.serve.client.messages import Reply


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """At most `retries` more attempts, after a random part of `base_s`, twice as much each time.

    A server that says how long to wait (Retry-After) is waited for, if that leaves time to ask.
    """

    retries: int = 1
    base_s: float = 0.1
    max_wait_s: float = 5.0

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}, it cannot be negative")
        if not 0 <= self.base_s <= self.max_wait_s:
            raise ValueError(
                f"base_s is {self.base_s}, not within 0 and max_wait_s, {self.max_wait_s}"
            )


def may_pass(reply: Reply) -> bool:
    """Whether the same request may succeed later: overload, or a replica lost under it.

    A 5xx that is not JSON comes from the proxy in front of a replica that died.
    """
    return reply.status in (429, 503) or (reply.status >= 500 and not reply.is_json)


def wait_s(
    policy: RetryPolicy, attempt: int, reply: Reply | None, *, left_s: float, chance: float
) -> float | None:
    """Seconds to wait before the next attempt, after `attempt` of them; None is to give up.

    Args:
        reply: what the last attempt was told; None when the connection was lost.
        left_s: until the caller's deadline.
        chance: a random number from 0 to 1, so that many clients do not come back at once.
    """
    if attempt > policy.retries or (reply is not None and not may_pass(reply)):
        return None
    wait = min(policy.max_wait_s, policy.base_s * 2 ** (attempt - 1)) * chance
    asked = 0.0 if reply is None else _retry_after_s(reply)
    if asked > policy.max_wait_s:
        return None
    wait = max(wait, asked)
    return wait if wait < left_s else None


def _retry_after_s(reply: Reply) -> float:
    """What the server asks for; dates, which it may also write, are as good as nothing said."""
    try:
        seconds = float(reply.headers.get("retry-after", "0"))
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
