"""How a command learns that it shall end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

# Written to stderr as they are, of which a print may be under way.
_ENDING = "raymlops: it is ending, which takes some seconds; Ctrl-C once more ends it at once\n"
_WAITING = "raymlops: it ends once what is under way is over; Ctrl-C once more ends it at once\n"


def ended_by_signal() -> threading.Event:
    """Set by SIGINT or SIGTERM, for a verb that runs until then.

    What is under way, such as a training or a look at a store that is away, is waited for. The
    second signal says so, and a third ends the process at once.
    """
    ended = threading.Event()
    num_taps = 0

    def tapped(number: int, _: object) -> None:
        nonlocal num_taps
        num_taps += 1
        ended.set()
        if num_taps == 2:
            os.write(2, _WAITING.encode())
        elif num_taps > 2:
            _end_at_once(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, tapped)
    return ended


@contextlib.contextmanager
def interrupted_once() -> Iterator[None]:
    """Has the first Ctrl-C interrupt the block as ever, and a second not the end of it: how a run
    ended is written down then, and Ray's processes are ended. A third ends this one at once.

    Where Ctrl-C is ignored, as by what a shell runs behind it, it stays so.
    """
    on_main = threading.current_thread() is threading.main_thread()
    if not on_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    num_taps = 0

    def tapped(*_: object) -> None:
        nonlocal num_taps
        num_taps += 1
        if num_taps == 1:
            raise KeyboardInterrupt
        if num_taps == 2:
            os.write(2, _ENDING.encode())
            return
        _end_at_once(signal.SIGINT)

    signal.signal(signal.SIGINT, tapped)
    try:
        yield
    finally:
        if not num_taps:  # else the process ends, which takes a moment as well
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_at_once(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
