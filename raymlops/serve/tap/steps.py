"""Work in steps, between which an event loop can answer requests.

A thread would not help with less than a few milliseconds: it takes the interpreter from the event
loop and gives it back at every call of numpy, for about as long as the work itself takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Work that may pause wherever it yields, for what it returns."""


def finished(steps: Steps[T]) -> T:
    """What they come to, without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


async def between_requests(steps: Steps[T]) -> T:
    """The same, with a turn of the event loop after each of them."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)
