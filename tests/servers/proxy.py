"""A network that fails: a TCP proxy that cuts connections, or is not there."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

_PIECE_BYTES = 64 << 10


class Proxy:
    """Passes connections on to `target`, HOST:PORT, and disturbs them as it is told."""

    def __init__(self, target: str) -> None:
        host, _, port = target.partition(":")
        self._target = (host, int(port))
        self._listener: socket.socket | None = None
        self._address = ("127.0.0.1", 0)
        self._lock = threading.Lock()
        self._ends: set[socket.socket] = set()
        self._refusals_left = 0
        self._bytes_left: int | None = None
        self.num_cut = 0
        self.open()

    @property
    def address(self) -> str:
        return f"{self._address[0]}:{self._address[1]}"

    def open(self) -> None:
        """Listens, at the same address as before."""
        self._listener = socket.create_server(self._address)
        self._address = self._listener.getsockname()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Nobody listens any more, and every connection is cut."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener = None
        with self._lock:
            for end in self._ends:
                _reset(end)

    def cut_next(self, connections: int) -> None:
        """Resets that many of the next connections as soon as they are made."""
        self._refusals_left = connections

    def cut_after(self, size_bytes: int) -> None:
        """Resets, once, the connection over which the server's next bytes exceed `size_bytes`."""
        self._bytes_left = size_bytes

    def _accept(self, listener: socket.socket) -> None:
        with listener, contextlib.suppress(OSError):  # the listener was shut down
            while True:
                client, _ = listener.accept()
                if self._refusals_left > 0:
                    self._refusals_left -= 1
                    self.num_cut += 1
                    _reset(client)
                    client.close()
                    continue
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            with self._lock:
                self._ends |= {client, server}
            asks = threading.Thread(target=self._pass_on, args=(client, server, False))
            asks.start()
            self._pass_on(server, client, True)
            asks.join()
            with self._lock:
                self._ends -= {client, server}

    def _pass_on(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE_BYTES):
                if answers and self._is_cut(len(data)):
                    self.num_cut += 1
                    break
                sink.sendall(data)
        _reset(source)
        _reset(sink)

    def _is_cut(self, size_bytes: int) -> bool:
        with self._lock:
            if self._bytes_left is None:
                return False
            self._bytes_left -= size_bytes
            if self._bytes_left >= 0:
                return False
            self._bytes_left = None
            return True


def _reset(end: socket.socket) -> None:
    """Ends a connection from any thread; when it is then closed, the other side sees a reset."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    between = Proxy(target)
    try:
        yield between
    finally:
        between.close()
