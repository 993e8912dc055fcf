"""The sign of life that a process gives for the runs it has started."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection

from raymlops.errors import LedgerError
from raymlops.ledger.tracking.liveness import HEARTBEAT_S

_logger = logging.getLogger(__name__)


class Heartbeat:
    """One daemon thread for all open runs of a ledger; it lives as long as there are any.

    `beat` is told their ids and returns those that are still running. Where it fails, the next
    beat is due as ever: a database that is away for a moment must not end a training.
    """

    _thread: threading.Thread | None

    def __init__(
        self, beat: Callable[[Collection[str]], Collection[str]], *, every_s: float = HEARTBEAT_S
    ) -> None:
        self._beat = beat
        self._every_s = every_s
        self._reset()

    def watch(self, run_id: str) -> None:
        """Speaks for this run from now on, until it ends or `stop`."""
        if self._pid != os.getpid():
            self._reset()  # a forked child has neither the thread nor the runs of its parent
        with self._lock:
            self._open.add(run_id)
            if self._thread is None:
                self._stopped = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(self._stopped,), name="raymlops-heartbeat", daemon=True
                )
                self._thread.start()

    def forget(self, run_id: str) -> None:
        if self._pid == os.getpid():
            with self._lock:
                self._open.discard(run_id)
                if not self._open:
                    self._stop()

    def stop(self) -> None:
        """Ends the thread, and waits for it a moment; the open runs are no longer spoken for."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._open.clear()
            thread = self._stop()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=1.0)

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._open: set[str] = set()
        self._stopped = threading.Event()
        self._thread = None

    def _stop(self) -> threading.Thread | None:
        thread, self._thread = self._thread, None
        self._stopped.set()
        return thread

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._every_s):
            with self._lock:
                asked = frozenset(self._open)
            try:
                running = self._beat(asked)
            except LedgerError as error:  # says all there is to say; the disk may be full
                _logger.warning("%d runs could not be spoken for: %s", len(asked), error)
                continue
            except Exception:  # the thread's boundary; the next beat may find the database back
                _logger.warning("%d runs could not be spoken for", len(asked), exc_info=True)
                continue
            for run_id in asked.difference(running):
                self.forget(run_id)
