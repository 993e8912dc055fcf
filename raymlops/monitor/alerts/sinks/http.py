"""Posting JSON to somebody else's server."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Mapping
from typing import Any

import httpx
import orjson

from raymlops.monitor.alerts.sinks.base import DeliveryError

_TIMEOUT_S = 10.0
_BODY_S = 2.0  # for words that explain a refusal
_BYTES_TOLD = 200
# Come back later, or the server's own fault; whatever else is refused will be again.
_PASSING = (408, 425, 429)


def post(url: str, body: Any, *, headers: Mapping[str, str] | None = None) -> None:
    """Raises DeliveryError unless the answer is a success; neither URL nor headers are told.

    The time is that of the whole exchange, and of an answer no more is read than is told of it: a
    server may send a byte now and then, or a body that has no end, and all alerts to this sink
    would wait for that.
    """
    try:
        asyncio.run(_post(url, orjson.dumps(body, default=str), headers or {}))
    except httpx.InvalidURL:
        raise DeliveryError("the URL is malformed", True) from None
    except UnicodeError as error:
        raise DeliveryError(f"the host or a header cannot be sent: {error}", True) from None
    except TimeoutError:
        raise DeliveryError(f"there was no answer within {_TIMEOUT_S:g} s") from None
    except httpx.HTTPError as error:
        raise DeliveryError(f"{type(error).__name__}: {error}") from None


async def _post(url: str, content: bytes, headers: Mapping[str, str]) -> None:
    # Nobody but the server named is to see what is sent to it.
    async with httpx.AsyncClient(timeout=None, follow_redirects=False) as client:
        request = client.build_request(
            "POST", url, content=content, headers={"content-type": "application/json", **headers}
        )
        request.url.host.encode(
            "idna"
        )  # asked for it, a resolver says of a..b that nobody knows it
        async with asyncio.timeout(_TIMEOUT_S):
            reply = await client.send(request, stream=True)
        if reply.is_success:
            return
        told = f"the answer was {reply.status_code}: {await _beginning(reply)}"
    permanent = reply.status_code < 500 and reply.status_code not in _PASSING
    raise DeliveryError(told, permanent, _retry_after_s(reply))


async def _beginning(reply: httpx.Response) -> str:
    """What can be read of it before long, a few words."""
    found = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_BODY_S):
            async for part in reply.aiter_bytes():
                found += part
                if len(found) >= _BYTES_TOLD:
                    break
    return found[:_BYTES_TOLD].decode(errors="replace")


def _retry_after_s(reply: httpx.Response) -> float:
    """What the server asks for; dates, which it may also write, are as good as nothing said."""
    try:
        seconds = float(reply.headers.get("retry-after", "0"))
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
