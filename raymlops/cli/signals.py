"""How a verb that runs until it is interrupted learns of it."""

from __future__ import annotations

import signal
import threading


def ended_by_signal() -> threading.Event:
    """Set by SIGINT or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    return ended
