"""Ctrl-C and SIGTERM while workers train: both interrupt it, whatever Ray makes of them."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raises KeyboardInterrupt out of the block, in the main thread, when the process is told to
    end.

    Ray Train's own handler of SIGINT ends the process as if all were well, and stays behind after
    the training, where it swallows every Ctrl-C. Ray's of SIGTERM is a handler of Python, which
    exits, below one of C++, which first prints a page of registers and aborts the process three
    seconds later, whatever it is about to write down.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    if (terminates := signal.getsignal(signal.SIGTERM)) is not None:
        signal.signal(signal.SIGTERM, terminates)  # takes the place of the one of C++
    try:
        yield
    except SystemExit as exit_:
        signal.signal(signal.SIGINT, before)
        if callable(before):
            signal.raise_signal(signal.SIGINT)  # so that it knows of the next one as the second
        raise KeyboardInterrupt from exit_
    finally:
        signal.signal(signal.SIGINT, before)
