"""Options of the connections between workers, set once they are there.

gloo takes none, so they are set on its sockets, which the kernel lists; NCCL reads variables. Which
connections are those between workers, and not Ray's, follows from their ends: one worker's local
end is the other's remote end.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch.distributed as dist

from raymlops.errors import TrainingError
from raymlops.train.communication.spec import SocketSpec
from raymlops.train.plan.seat import Seat

End: TypeAlias = tuple[str, int]

_FOLDER = Path("/proc/self/fd")
_INTERNET = (socket.AF_INET, socket.AF_INET6)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What the connections have now, and the least of their buffers as the kernel counts them."""

    num_connections: int
    send_buffer_bytes: int
    receive_buffer_bytes: int


def tune(spec: SocketSpec, seat: Seat) -> Tuned | None:
    """Sets the options on this worker's connections to others; None where nothing is to be set.

    Every worker calls it, once its groups are made.

    Raises:
        TrainingError: this system does not list a process's sockets.
    """
    if spec == SocketSpec() or seat.saving is None:
        return None
    if not _FOLDER.exists():
        raise TrainingError(
            f"communication.sockets is set, and this system has no {_FOLDER} that tells of them: "
            "leave it out"
        )
    mine = _connections()
    theirs: list[list[End]] = [[] for _ in range(seat.plan.num_workers)]
    dist.all_gather_object(theirs, [local for local, _ in mine.values()], group=seat.saving)
    ends = [end for rank, found in enumerate(theirs) if rank != seat.rank for end in found]
    chosen = between_workers(mine, ends)
    buffers = [_set(number, spec) for number in chosen]
    if not buffers:
        raise TrainingError(
            f"communication.sockets is set, and worker {seat.rank} has no TCP connection to "
            "another: leave it out"
        )
    tuned = Tuned(
        num_connections=len(chosen),
        send_buffer_bytes=min(sent for sent, _ in buffers),
        receive_buffer_bytes=min(received for _, received in buffers),
    )
    _tell_of_less(spec, tuned)
    return tuned


def between_workers(mine: Mapping[int, tuple[End, End]], theirs: Iterable[End]) -> list[int]:
    """Of connections by number, with local and remote end, those that end at other workers."""
    others = frozenset(theirs)
    return sorted(number for number, (_, remote) in mine.items() if remote in others)


def _connections() -> dict[int, tuple[End, End]]:
    found: dict[int, tuple[End, End]] = {}
    for name in os.listdir(_FOLDER):
        # Closed meanwhile, no socket, or one that is not connected.
        with suppress(OSError), _opened(int(name)) as opened:
            if opened.type == socket.SOCK_STREAM and opened.family in _INTERNET:
                found[int(name)] = _end(opened.getsockname()), _end(opened.getpeername())
    return found


def _set(number: int, spec: SocketSpec) -> tuple[int, int]:
    """Sizes of the buffers that came of it."""
    with _opened(number) as opened:
        if spec.nodelay is not None:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, spec.nodelay)
        if spec.send_buffer_bytes is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, spec.send_buffer_bytes)
        if spec.receive_buffer_bytes is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, spec.receive_buffer_bytes)
        return (
            opened.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
            opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
        )


def _tell_of_less(spec: SocketSpec, tuned: Tuned) -> None:
    for name, limit in (("send_buffer_bytes", "wmem_max"), ("receive_buffer_bytes", "rmem_max")):
        asked, granted = getattr(spec, name), getattr(tuned, name)
        if asked is not None and granted < 2 * asked:  # Linux doubles it, for its own books
            _logger.warning(
                "communication.sockets.%s is %d, the kernel grants %d: raise net.core.%s",
                name,
                asked,
                granted // 2,
                limit,
            )


@contextmanager
def _opened(number: int) -> Iterator[socket.socket]:
    """The socket of that number, which stays open; OSError for what is none."""
    duplicate = os.dup(number)
    try:
        opened = socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        raise
    with opened:
        yield opened


def _end(address: tuple[str, int] | tuple[str, int, int, int]) -> End:
    return address[0].removeprefix("::ffff:"), address[1]
