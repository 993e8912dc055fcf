"""Posting JSON to somebody else's server."""

from __future__ import annotations

import math
import time
from typing import Any

import httpx
import orjson

from raymlops.monitor.alerts.sinks.base import DeliveryError

_TIMEOUT_S = 10.0
_BYTES_TOLD = 200
# Come back later, or the server's own fault; whatever else is refused will be again.
_PASSING = (408, 425, 429)


def post(url: str, body: Any, *, headers: dict[str, str] | None = None) -> None:
    """Raises DeliveryError unless the answer is a success; neither URL nor headers are told.

    Of an answer no more is read than is told of it: its body may have no end, and all alerts to
    this sink would wait for that.
    """
    try:
        # Nobody but the server named is to see what is sent to it.
        with httpx.stream(
            "POST",
            url,
            content=orjson.dumps(body, default=str),
            headers={"content-type": "application/json", **(headers or {})},
            timeout=_TIMEOUT_S,
            follow_redirects=False,
        ) as reply:
            if reply.is_success:
                return
            told = f"the answer was {reply.status_code}: {_beginning(reply)}"
    except httpx.InvalidURL:
        raise DeliveryError("the URL is malformed", True) from None
    except UnicodeError as error:
        raise DeliveryError(f"the host or a header cannot be sent: {error}", True) from None
    except httpx.HTTPError as error:
        raise DeliveryError(f"{type(error).__name__}: {error}") from None
    permanent = reply.status_code < 500 and reply.status_code not in _PASSING
    raise DeliveryError(told, permanent, _retry_after_s(reply))


def _beginning(reply: httpx.Response) -> str:
    """What can be read of it before long, a few words."""
    found, deadline = b"", time.monotonic() + _TIMEOUT_S
    for part in reply.iter_bytes():
        found += part
        if len(found) >= _BYTES_TOLD or time.monotonic() > deadline:
            break
    return found[:_BYTES_TOLD].decode(errors="replace")


def _retry_after_s(reply: httpx.Response) -> float:
    """What the server asks for; dates, which it may also write, are as good as nothing said."""
    try:
        seconds = float(reply.headers.get("retry-after", "0"))
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
