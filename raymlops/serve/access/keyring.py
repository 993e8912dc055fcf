"""The file of a server's keys: names, digests and scopes, which whoever reads it cannot use."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import orjson

from raymlops.cluster.files import locked
from raymlops.errors import ConfigError
from raymlops.serve.access.keys import ApiKey

_logger = logging.getLogger(__name__)

_PERIOD_S = 1.0
_UNSEEN = (-1, -1)
"""The stamp of no file."""


class Keyring:
    """Keys in a file of JSON, mode 0600, that is replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[ApiKey, ...]:
        """Raises ConfigError when the file is not there or holds something else."""
        try:
            rows = orjson.loads(self._path.read_bytes())
            return tuple(ApiKey(**{**row, "models": tuple(row["models"])}) for row in rows)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"{self._path} holds no keys: {error}; `raymlops keys make NAME` writes one"
            ) from error

    def add(self, key: ApiKey) -> None:
        """Raises ConfigError when a key of that name is there."""
        with self._changing():
            known = self.read() if self._path.exists() else ()
            if any(each.name == key.name for each in known):
                raise ConfigError(f"{self._path} has a key '{key.name}' already; revoke it first")
            self._write((*known, key))

    def revoke(self, name: str) -> None:
        """Raises ConfigError when there is none of that name."""
        with self._changing():
            known = self.read()
            kept = tuple(key for key in known if key.name != name)
            if len(kept) == len(known):
                names = ", ".join(key.name for key in known) or "none"
                raise ConfigError(f"{self._path} has no key '{name}'; there are: {names}")
            self._write(kept)

    async def watch(self, on_change: Callable[[Sequence[ApiKey]], None]) -> None:
        """Tells of the keys now, since who read them before may have missed a change, and
        whenever the file was replaced; never returns, cancel it to stop.

        A file that cannot be read lets nobody in, until it can be read again.
        """
        seen: tuple[int, int] | None = _UNSEEN
        while True:
            stamp = self._stamp()  # before the keys, so that a change in between is read, too
            if stamp != seen:
                seen = stamp
                on_change(await asyncio.to_thread(self._read_or_nobody))
            await asyncio.sleep(_PERIOD_S)

    def _read_or_nobody(self) -> tuple[ApiKey, ...]:
        try:
            return self.read()
        except ConfigError as error:
            _logger.error("nobody is let in: %s", error)
            return ()

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Waits for whoever else makes or revokes a key, and keeps others waiting."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._path.with_name(f".{self._path.name}.lock")):
            yield

    def _write(self, keys: Sequence[ApiKey]) -> None:
        rows = [asdict(replace(key, models=tuple(key.models))) for key in keys]
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
