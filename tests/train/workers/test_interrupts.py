from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raymlops.train.workers.interrupts import interruptible


@pytest.fixture
def _signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
def test_sigterm_interrupts_a_training_without_the_handler_of_c(tmp_path: Path) -> None:
    """Ray's printed registers, and aborted the process while its end was written down."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))  # as Ray's in a driver
    with open(tmp_path / "dump", "wb") as dump:
        # As Ray's C++ does: on top of Python's handler, which it calls when it has printed.
        faulthandler.register(signal.SIGTERM, file=dump, chain=True)
        try:
            with pytest.raises(KeyboardInterrupt), interruptible():
                signal.raise_signal(signal.SIGTERM)
        finally:
            faulthandler.unregister(signal.SIGTERM)
    assert (tmp_path / "dump").read_bytes() == b""


@pytest.mark.usefixtures("_signals")
def test_ctrl_c_is_afterwards_what_it_was() -> None:
    before = signal.getsignal(signal.SIGINT)

    def interrupted() -> None:
        signal.signal(signal.SIGINT, lambda *_: sys.exit(0))  # as Ray Train's
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), interruptible():
        interrupted()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("_signals")
def test_whoever_counts_ctrl_c_is_told_of_the_first() -> None:
    """It took the second for the first, and broke into the end of the run."""
    taps = []
    signal.signal(signal.SIGINT, lambda *_: taps.append("tap"))

    def interrupted() -> None:
        signal.signal(signal.SIGINT, lambda *_: sys.exit(0))  # as Ray Train's
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), interruptible():
        interrupted()
    assert taps == ["tap"]
