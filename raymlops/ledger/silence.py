"""Telling a PostgreSQL that stands still from one that works on a long statement.

The kernel of a server that was stopped, as a paused container or virtual machine is, goes on to
acknowledge what comes, so no timeout of TCP ends the waiting for an answer; and time alone says
nothing, since a statement may take long:

    asked ── nothing for SILENCE_S ── a new connection ──┬── answered: waits on, for SILENCE_S ──
                                                         └── not answered: given up
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import psycopg
from psycopg.waiting import Ready, Wait

SILENCE_S = 15.0
KNOCK_S = 10

Result = TypeVar("Result")
_Steps = Generator[Wait, Ready | int, Result]


class StandsStillError(psycopg.OperationalError):
    """A server that takes what is sent, and does nothing."""


def listened(
    steps: _Steps[Result],
    is_answered: Callable[[], bool],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> _Steps[Result]:
    """What psycopg does with a connection, which ends where the server stands still: it has said
    nothing for `SILENCE_S`, `is_answered` says that it does not to others either, and it has not
    meanwhile.

    Raises:
        StandsStillError: so it is.
    """
    try:
        wanted = next(steps)
        heard, is_alone = clock(), False
        while True:
            ready = yield wanted
            if ready != Ready.NONE:
                heard, is_alone = clock(), False
            elif is_alone:
                raise StandsStillError(
                    f"the server has said nothing for {clock() - heard:.0f} s, and answers no new "
                    "connection"
                )
            elif clock() - heard >= SILENCE_S and not (is_alone := not is_answered()):
                heard = clock()
            wanted = steps.send(ready)
    except StopIteration as end:
        result: Result = end.value
        return result


class ListeningConnection(psycopg.Connection[Any]):
    """One that gives up a server which stands still."""

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().wait(listened(gen, self._is_answered), *args, **kwargs)
        except StandsStillError:
            self.pgconn.finish()  # its late answer would be taken for that to something else
            raise

    def _is_answered(self) -> bool:
        """Whether the server does anything with a new connection, be it to refuse it."""
        known = self.info
        try:
            psycopg.Connection.connect(
                known.dsn,
                host=known.host,
                port=known.port,
                password=known.password or None,
                connect_timeout=KNOCK_S,
            ).close()
        except psycopg.errors.ConnectionTimeout:
            return False
        except psycopg.OperationalError:
            return True
        return True
