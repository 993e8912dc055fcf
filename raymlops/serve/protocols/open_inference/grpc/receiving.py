"""Messages on their way: how long each may take, so that memory holds those that are not complete.

A client that opens calls and never ends their messages has all they hold kept for it. grpc bounds
neither their number nor their time, and leaves that to who reads them.
"""

from __future__ import annotations

import asyncio

import grpc.aio

from raymlops.errors import RequestError
from raymlops.serve.http import HttpLimits

_MOST_SLOW = 32
"""So many of the largest size may take their time, as over HTTP."""
_HURRIED_S = 1.0
"""What others have while there are so many."""


class Receiving:
    """Belongs to one server and its event loop."""

    def __init__(self, limits: HttpLimits) -> None:
        self._patience_s = limits.body_timeout_s
        self._num_slow = 0

    async def message(self, context: grpc.aio.ServicerContext) -> bytes:
        """The message of a call.

        Raises:
            RequestError: 408 or 503, it is not complete in time; 400, there is none.
        """
        hurries = self._num_slow >= _MOST_SLOW
        self._num_slow += 1
        try:
            async with asyncio.timeout(_HURRIED_S if hurries else self._patience_s):
                message = await context.read()
        except TimeoutError:
            if hurries:
                raise RequestError(503, "too many messages are being received") from None
            raise RequestError(408, f"the message took over {self._patience_s:g} s") from None
        finally:
            self._num_slow -= 1
        if message is grpc.aio.EOF:
            raise RequestError(400, "there is no message")
        return bytes(message)
