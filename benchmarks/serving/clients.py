"""Clients that ask without pause, whatever they do with the answers."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from typing import Self


class Clients(ABC):
    """Each asks in a thread of its own while the block runs, until `done` is set."""

    def __init__(self, number: int) -> None:
        self.done = threading.Event()
        self._threads = [
            threading.Thread(target=self.ask, args=(client,)) for client in range(number)
        ]

    @property
    @abstractmethod
    def num_answered(self) -> int:
        """Requests of all clients so far."""

    @abstractmethod
    def ask(self, client: int) -> None:
        """What one client does."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        for thread in self._threads:
            thread.join()

    def wait(self, number: int, timeout_s: float = 120.0) -> None:
        """Returns when that many more requests were answered."""
        wanted, deadline = self.num_answered + number, time.monotonic() + timeout_s
        while self.num_answered < wanted:
            if time.monotonic() > deadline:
                raise SystemExit(f"not {number} more answers within {timeout_s} s")
            time.sleep(0.005)
