"""Lines of JSON in files that rotate, written by a thread: whoever logs never waits for a disk.

put ──► bounded queue ──thread: encode, hide secrets, write──► requests.jsonl
          `── full: dropped and counted                         requests.jsonl.1 ... .4
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from raymlops.config import redact
from raymlops.telemetry.logs.lives import hold, remove_ended

_EVERY_S = 0.2
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z

_logger = logging.getLogger(__name__)


class LineWriter:
    """Appends documents to `path`, a line each; `num_written` and `num_dropped` count them.

    A disk that takes nothing costs lines, never a request: the writer goes on trying. Writers of a
    `family` have a file for each life, see `lives`: what ended ones left is `num_files`, too.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_file_bytes: int,
        num_files: int,
        max_waiting: int,
        family: str | None = None,
    ) -> None:
        self._path = path
        self._family = family
        self._held: int | None = None
        self._max_file_bytes = max_file_bytes
        self._num_files = num_files
        self._max_waiting = max_waiting
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._ended = threading.Event()
        self._failing = False
        self.num_written = 0
        self.num_dropped = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, document: Mapping[str, Any]) -> None:
        """Takes a document in, or drops it where too many wait; never blocks."""
        if len(self._waiting) >= self._max_waiting:
            self.num_dropped += 1
        else:
            self._waiting.append(document)

    def close(self) -> None:
        """Returns once everything that waits is written."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _run(self) -> None:
        self._remove_ended()
        while not self._ended.wait(_EVERY_S):
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not taken:
            return
        lines = [line for line in map(self._line, taken) if line is not None]
        try:
            self._append(lines)
        except OSError as error:
            self.num_dropped += len(lines)
            if not self._failing:
                _logger.warning(
                    "%s cannot be written, its lines are dropped: %s", self._path, error
                )
            self._failing = True
        else:
            self.num_written += len(lines)
            self._failing = False

    def _line(self, document: Mapping[str, Any]) -> bytes | None:
        """None of a document that JSON cannot hold: it costs its own line and no other."""
        try:
            text = orjson.dumps(document, default=str, option=_OPTIONS).decode()
        except TypeError as error:
            self.num_dropped += 1
            _logger.warning("a line of %s cannot be written, it is dropped: %s", self._path, error)
            return None
        return redact(text).encode() + b"\n"

    def _append(self, lines: Iterable[bytes]) -> None:
        """To a file with room: where the full one cannot be put aside, it must not grow on."""
        with _alone_in(self._path.parent):
            if self._is_full():
                self._rotate()
            # What a request was about is nobody else's affair.
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with open(descriptor, "ab") as file:
                self._hold(descriptor)
                file.write(b"\n" * _is_torn(descriptor) + b"".join(lines))

    def _hold(self, descriptor: int) -> None:
        """Its file is another after each rotation, and where a person removed it."""
        before, self._held = self._held, os.dup(descriptor)
        hold(self._held)
        if before is not None:
            os.close(before)

    def _remove_ended(self) -> None:
        if self._family is None:
            return
        try:
            with _alone_in(self._path.parent):
                remove_ended(self._path.parent, self._family, keep=self._num_files)
        except OSError as error:
            _logger.warning("logs of replicas that have ended stay: %s", error)

    def _is_full(self) -> bool:
        try:
            return self._path.stat().st_size >= self._max_file_bytes
        except FileNotFoundError:
            return False

    def _rotate(self) -> None:
        kept = [self._aside(number) for number in range(self._num_files, 0, -1)]
        for older, newer in itertools.pairwise(kept):
            if newer.exists():
                newer.replace(older)
        self._path.replace(self._aside(1))

    def _aside(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process is: one would put files over those that another has just put
    aside, or take the half of a line that another is writing for what a killed one has left."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_torn(descriptor: int) -> bool:
    """Whether the file ends within a line, as where the disk was full or the writer was killed:
    what is written next would be a part of it."""
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
