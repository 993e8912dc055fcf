"""How a command learns that it shall end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

# Written to stderr as they are, of which a print may be under way.
_ENDING = "raymlops: it is ending, which takes some seconds; Ctrl-C once more ends it at once\n"
_WAITING = "raymlops: it ends once what is under way is over; Ctrl-C once more ends it at once\n"


def ended_by_signal() -> threading.Event:
    """Set by SIGINT, SIGTERM or the end of its terminal, for a verb that runs until then.

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
    _at_hangup(ended.set)
    return ended


@contextlib.contextmanager
def interrupted_once() -> Iterator[None]:
    """Has the first Ctrl-C, or the end of the terminal, interrupt the block as Ctrl-C ever did, and
    a second not the end of it: how a run ended is written down then, and Ray's processes are ended.
    A third ends this one at once.

    Where Ctrl-C is ignored, as by what a shell runs behind it, it stays so.
    """
    if threading.current_thread() is not threading.main_thread():
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

    def hung_up() -> None:
        nonlocal num_taps
        if not num_taps:
            num_taps = 1
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    if before[signal.SIGINT] is signal.default_int_handler:
        signal.signal(signal.SIGINT, tapped)
    _at_hangup(hung_up)
    try:
        yield
    finally:
        if not num_taps:  # else the process ends, which takes a moment as well
            for number, handler in before.items():
                signal.signal(number, handler)


def _at_hangup(act: Callable[[], None]) -> None:
    """Has `act` be done when the terminal ends, of which kernel and shell may both tell: so what is
    under way is not cut off by the second. `nohup` has it ignored, and it stays so."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: act())


def _end_at_once(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
