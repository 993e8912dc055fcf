"""Two connections as one: what is read of either is written to the other."""

from __future__ import annotations

import asyncio
from typing import cast


class Side(asyncio.Protocol):
    """Writes what it reads to the other side, no faster than that can take it."""

    other: Side
    transport: asyncio.Transport

    @classmethod
    def pair(cls) -> tuple[Side, Side]:
        one, other = cls(), cls()
        one.other, other.other = other, one
        return one, other

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        if hasattr(self.other, "transport"):
            self.other.transport.close()
        del self.other  # each is held by its own transport alone, so that it ends with that
