from __future__ import annotations

import asyncio
import gc
import socket
import weakref

import pytest
import uvloop

from raymlops.serve.door.copying import Side
from tests.serve.coroutines import until


@pytest.mark.parametrize("make", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_one_says_the_other_hears_and_an_end_ends_both(make: type) -> None:
    async def test() -> None:
        (near, one), (far, other) = socket.socketpair(), socket.socketpair()
        sides = Side.pair()
        loop = asyncio.get_running_loop()
        for side, end in zip(sides, (one, other), strict=True):
            end.setblocking(False)
            await loop.create_connection(lambda side=side: side, sock=end)
        for end in (near, far):
            end.setblocking(False)
        for said, heard in ((near, far), (far, near)):
            said.sendall(b"hello")
            assert await loop.sock_recv(heard, 100) == b"hello"
        near.close()
        assert await loop.sock_recv(far, 100) == b""
        await asyncio.wait([side.ended for side in sides])
        far.close()
        gone = [weakref.ref(side) for side in sides]
        del side, sides
        await until(lambda: [ref() for ref in gone] == [None, None])  # no search for garbage

    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=make) as runner:
            runner.run(asyncio.wait_for(test(), 20.0))
    finally:
        gc.enable()
