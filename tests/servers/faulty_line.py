"""A line to a ZooKeeper server that breaks when a test says so."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

# Request types of the protocol.
CREATE, DELETE, MULTI = 15, 2, 14


class FaultyLine:
    """Passes bytes on, both ways, until it is told to lose something."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.num_lost = 0
        self.num_refused = 0
        self._is_up = True
        self._lose_answer_to: int | None = None
        self._then_down = False
        self._lost_request: int | None = None
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_answer_to(self, request_type: int, *, then_down: bool = False) -> None:
        """Breaks once the server has answered the next such request, which the client never hears;
        `then_down` lets no new connection through afterwards."""
        self._lose_answer_to, self._then_down = request_type, then_down

    def down(self) -> None:
        self._is_up = False
        with self._lock:
            for end in self._ends:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            self._ends.clear()

    def up(self) -> None:
        self._is_up = True

    def close(self) -> None:
        self.down()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if not self._is_up:
                    client.close()
                    self.num_refused += 1
                    continue
                server = socket.create_connection(("127.0.0.1", self._target_port))
                with self._lock:
                    self._ends += [client, server]
                for source, sink, look in (
                    (client, server, self._look_at_request),
                    (server, client, self._look_at_answer),
                ):
                    arguments = (source, sink, look)
                    threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, look) -> None:  # type: ignore[no-untyped-def]
        with contextlib.suppress(OSError), source, sink:
            while data := source.recv(65536):
                look(data)
                sink.sendall(data)

    def _look_at_request(self, data: bytes) -> None:
        for frame in _frames(data):
            number, kind = struct.unpack_from(">ii", frame)
            if kind == self._lose_answer_to:
                self._lose_answer_to, self._lost_request = None, number

    def _look_at_answer(self, data: bytes) -> None:
        for frame in _frames(data):
            if struct.unpack_from(">i", frame)[0] == self._lost_request:
                self._lost_request = None
                self.num_lost += 1
                self.down()
                self._is_up = not self._then_down
                raise ConnectionAbortedError


def _frames(data: bytes) -> Iterator[bytes]:
    """The length-prefixed packets of the protocol; small ones come whole over loopback."""
    while len(data) >= 12:
        (length,) = struct.unpack_from(">i", data)
        yield data[4 : 4 + length]
        data = data[4 + length :]


@contextlib.contextmanager
def faulty_line(target_port: int) -> Iterator[FaultyLine]:
    line = FaultyLine(target_port)
    try:
        yield line
    finally:
        line.close()
