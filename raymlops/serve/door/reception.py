"""Which model a new connection asks for, by the first bytes of its client, which are left there."""

from __future__ import annotations

import socket
from collections.abc import Callable

from raymlops.serve.door.clients import client_of
from raymlops.serve.door.roster import Roster
from raymlops.serve.door.sorting import may_have_path, may_have_session, path_of, session_of
from raymlops.serve.door.waiting import Visitor, WaitingRoom, has_ended

_PEEK_BYTES = 4096


class Reception:
    """Looks at connections, if need be several times, and has those it knows the model of passed
    on; to None where no model is asked for."""

    def __init__(
        self,
        roster: Roster,
        waiting: WaitingRoom,
        *,
        pass_on: Callable[[Visitor, str | None], None],
    ) -> None:
        self._roster = roster
        self._waiting = waiting
        self._pass_on = pass_on

    def welcome(self, connection: socket.socket) -> None:
        self._look(Visitor(connection))

    def recognise(self, visitor: Visitor) -> bool:
        """Whether it is known whose connection it is; if not, it is looked at again."""
        if not visitor.session:
            sent = visitor.read or _unread(visitor.connection) or b""
            if may_have_session(sent) and len(sent) < _PEEK_BYTES:
                self._look_again(visitor, sent)
                return False
            visitor.session = session_of(sent) or client_of(visitor.connection)
        return True

    def _look(self, visitor: Visitor) -> None:
        """Sorts a connection by what its client has sent, or waits until it has sent enough."""
        sent = _unread(visitor.connection)
        if sent is None:
            self._look_again(visitor, b"")
            return
        if not sent:
            visitor.connection.close()
            return
        path = path_of(sent)
        if path is not None or not may_have_path(sent) or len(sent) >= _PEEK_BYTES:
            self._pass_on(visitor, self._roster.owner(path))
        else:
            self._look_again(visitor, sent)

    def _look_again(self, visitor: Visitor, sent: bytes) -> None:
        """Once the client has sent more than that."""
        if sent and has_ended(visitor.connection):  # what is missing never comes
            visitor.connection.close()
        else:
            self._waiting.watch(visitor, self._look, unread=len(sent))


def _unread(connection: socket.socket) -> bytes | None:
    """What the client has sent so far; None before that, nothing once it has gone."""
    try:
        return connection.recv(_PEEK_BYTES, socket.MSG_PEEK)
    except BlockingIOError:
        return None
    except OSError:
        return b""
