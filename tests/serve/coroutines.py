"""Tests that are coroutines, and what they wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


def run(test: Callable[[], Coroutine[Any, Any, None]], *, timeout_s: float = 20.0) -> None:
    asyncio.run(asyncio.wait_for(test(), timeout_s))


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - what is waited for sets no event
        await asyncio.sleep(0.002)
