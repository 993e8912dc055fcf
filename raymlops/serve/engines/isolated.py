"""A bundle that runs in processes of its own: what kills or blocks it there fails one batch."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Mapping
from multiprocessing.connection import Connection
from queue import LifoQueue
from typing import Any

from raymlops.data import Columns
from raymlops.errors import EngineError
from raymlops.models import Bundle
from raymlops.serve.batching import Outputs
from raymlops.serve.engines.runner import BundleRunner, pin
from raymlops.serve.engines.settings import EngineSettings

_logger = logging.getLogger(__name__)

_LOAD_TIMEOUT_S = 120.0
_MAX_DEATHS = 3
"""So many in a row without an answer between them are no accident."""


class IsolatedRunner:
    """Like `BundleRunner`, by one process for each instance.

    A process that dies, or takes longer than `limit_s` for a batch, is replaced by the next; its
    batch fails with an EngineError, which a client may try again elsewhere.

    Raises what `BundleRunner` does.
    """

    def __init__(self, bundle: Bundle, settings: EngineSettings, *, limit_s: float) -> None:
        self._bundle = bundle
        self._settings = settings
        self._limit_s = limit_s
        self._num_deaths = 0
        self._closed = False
        self._idle: LifoQueue[_Child] = LifoQueue()
        children = [self._start(number) for number in range(settings.num_instances)]
        try:
            for child in children:
                child.wait_ready()
        except Exception:
            for child in children:
                child.kill()
            raise
        for child in children:
            self._idle.put(child)

    def __call__(self, columns: Columns) -> Outputs:
        child = self._idle.get()
        try:
            outputs = child.run(columns, self._limit_s)
        except EngineError:
            self._num_deaths += 1
            child.kill()
            if not self._closed:
                child = self._start(child.number)
            raise
        finally:
            self._idle.put(child)
        self._num_deaths = 0
        return outputs

    def check_health(self) -> None:
        """Raises RuntimeError when one process after the other dies."""
        if self._num_deaths >= _MAX_DEATHS:
            raise RuntimeError(f"the engine's process died {self._num_deaths} times in a row")

    def close(self) -> None:
        """Ends the processes, each when it has answered."""
        self._closed = True
        for _ in range(self._settings.num_instances):
            self._idle.get().kill()

    def _start(self, number: int) -> _Child:
        return _Child(self._bundle, self._settings, number)


class _Child:
    """The near end of an engine's process."""

    def __init__(self, bundle: Bundle, settings: EngineSettings, number: int) -> None:
        self.number = number
        context = multiprocessing.get_context("spawn")  # a fork would copy locks of other threads
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(far_end, bundle, settings, number), name="engine", daemon=True
        )
        self._process.start()
        far_end.close()
        self._is_ready = False

    def wait_ready(self) -> None:
        """Returns once the model is loaded, or raises what loading it raised."""
        if not self._is_ready:
            self._receive(_LOAD_TIMEOUT_S, "loading")
            self._is_ready = True

    def run(self, columns: Columns, limit_s: float) -> Outputs:
        self.wait_ready()
        try:
            self._pipe.send(dict(columns))
        except OSError as error:
            raise self._death() from error
        outputs: Outputs = self._receive(limit_s, "a batch")
        return outputs

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()

    def _receive(self, limit_s: float, of: str) -> Any:
        try:
            if not self._pipe.poll(limit_s):
                raise EngineError(
                    503, f"the engine's process took more than {limit_s:g} s for {of}; it is ended"
                )
            result = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error
        if isinstance(result, Exception):
            raise result
        return result

    def _death(self) -> EngineError:
        self._process.join(1.0)
        how = f"exit code {self._process.exitcode}"
        _logger.error("an engine's process died: %s", how)
        return EngineError(503, f"the engine's process died ({how}); another one takes over")


def _serve(pipe: Connection, bundle: Bundle, settings: EngineSettings, number: int) -> None:
    """The child: answers until the pipe is closed, as it is when the parent dies."""
    pin(settings, number)
    try:
        run = BundleRunner(bundle, settings)
    except Exception as error:  # belongs to the parent, which asked for it
        pipe.send(error)
        return
    pipe.send(None)
    while True:
        try:
            columns: Mapping[str, Any] = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(run(columns))
        except Exception as error:  # likewise
            pipe.send(error)
