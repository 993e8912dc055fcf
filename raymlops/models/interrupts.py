"""Ctrl-C while a library runs that would lose it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Holds a SIGINT back until the end of the block, and delivers it there.

    While torch imports parts of itself, bare `except` clauses swallow a KeyboardInterrupt, or turn
    it into an AttributeError of a half-imported module. Only the main thread receives signals; in
    any other this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held = False

    def hold(number: int, frame: FrameType | None) -> None:
        nonlocal held
        held = True

    before = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            signal.raise_signal(signal.SIGINT)
