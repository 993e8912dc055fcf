from __future__ import annotations

import contextlib
import signal
import threading
from typing import Any

import numpy as np
import pytest
import torch

from raymlops.models import export
from raymlops.models.interrupts import interrupts_held


def test_an_interrupt_is_delivered_at_the_end_of_the_block() -> None:
    order = []

    def interrupted() -> None:
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
            order.append("went on")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert order == ["went on"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)  # and the handler is what it was


def test_an_error_of_the_block_does_not_hide_the_interrupt() -> None:
    def broken() -> None:
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
            raise AttributeError("a half-imported module")

    with pytest.raises(KeyboardInterrupt):
        broken()


def test_other_threads_may_use_it() -> None:
    def hold() -> None:
        with interrupts_held():
            done.set()

    done = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert done.is_set()


def test_an_export_does_not_lose_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    # While torch imports its exporter, Ctrl-C was lost or became an error of a half-loaded module.
    exported = torch.onnx.export

    def swallow(*arguments: Any, **options: Any) -> Any:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return exported(*arguments, **options)

    monkeypatch.setattr(torch.onnx, "export", swallow)
    module = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Flatten(0))
    with pytest.raises(KeyboardInterrupt):
        export(module, np.ones((4, 3), dtype=np.float32))
