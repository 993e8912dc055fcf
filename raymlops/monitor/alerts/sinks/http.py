"""Posting JSON to somebody else's server."""

from __future__ import annotations

import math
from typing import Any

import httpx
import orjson

from raymlops.monitor.alerts.sinks.base import DeliveryError

_TIMEOUT_S = 10.0
# Come back later, or the server's own fault; whatever else is refused will be again.
_PASSING = (408, 425, 429)


def post(url: str, body: Any, *, headers: dict[str, str] | None = None) -> None:
    """Raises DeliveryError unless the answer is a success; neither URL nor headers are told."""
    try:
        # Nobody but the server named is to see what is sent to it.
        reply = httpx.post(
            url,
            content=orjson.dumps(body, default=str),
            headers={"content-type": "application/json", **(headers or {})},
            timeout=_TIMEOUT_S,
            follow_redirects=False,
        )
    except httpx.InvalidURL:
        raise DeliveryError("the URL is malformed", True) from None
    except UnicodeError as error:
        raise DeliveryError(f"the host or a header cannot be sent: {error}", True) from None
    except httpx.HTTPError as error:
        raise DeliveryError(f"{type(error).__name__}: {error}") from None
    if reply.is_success:
        return
    permanent = reply.status_code < 500 and reply.status_code not in _PASSING
    told = f"the answer was {reply.status_code}: {reply.text[:200]}"
    raise DeliveryError(told, permanent, _retry_after_s(reply))


def _retry_after_s(reply: httpx.Response) -> float:
    """What the server asks for; dates, which it may also write, are as good as nothing said."""
    try:
        seconds = float(reply.headers.get("retry-after", "0"))
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
