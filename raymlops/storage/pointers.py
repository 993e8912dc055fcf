"""Names that point to the newest digest of a thing, and that only its newest holder moves."""

from __future__ import annotations

import re

from raymlops.errors import MissingFileError, StaleLeaseError, StorageError
from raymlops.storage.files import Files
from raymlops.storage.names import checked_name

_TOKEN_DIGITS = 20


class Pointers:
    """A folder for each name, with a file for each token: the largest token is what counts.

    So a holder that was paused and wakes up after a newer one has written cannot move the
    pointer back, not even between a check and a write: its file is one that nobody looks at.
    """

    def __init__(self, files: Files) -> None:
        self._files = files

    def point(self, name: str, digest: str, *, token: int) -> None:
        """Lets `name` point to `digest`; the same token may do so again.

        Raises:
            StaleLeaseError: a holder with a larger token has written; nothing changes.
        """
        if not 0 <= token < 10**_TOKEN_DIGITS:
            raise ValueError(f"token is {token}, needs 0 <= token < 10**{_TOKEN_DIGITS}")
        folder = _folder(name)
        self._refuse_stale(name, token, self._tokens(folder))
        self._files.write(_file(folder, token), digest.encode())
        tokens = self._tokens(folder)
        self._refuse_stale(name, token, tokens)
        for older in tokens:
            if older < token:
                self._files.delete(_file(folder, older))

    def resolve(self, name: str) -> str:
        """The digest that the holder of the largest token has written.

        Raises:
            MissingFileError: nobody has pointed `name` to anything.
        """
        folder = _folder(name)
        while tokens := self._tokens(folder):
            try:
                return self._files.read(_file(folder, max(tokens))).decode()
            except MissingFileError:  # a newer holder has just removed it
                continue
        raise MissingFileError(f"'{name}' points to nothing in {self._files}")

    def _tokens(self, folder: str) -> list[int]:
        names = (name.removeprefix(folder) for name in self._files.list(folder))
        return [int(name) for name in names if _is_token(name)]

    def _refuse_stale(self, name: str, token: int, tokens: list[int]) -> None:
        if (newest := max(tokens, default=token)) > token:
            raise StaleLeaseError(
                f"'{name}' in {self._files} was written by the holder of token {newest}, and this"
                f" write carries {token}; take the lock again, then look what has changed"
            )


def _folder(name: str) -> str:
    checked = checked_name(name)
    if any(map(_is_token, checked.split("/"))):
        raise StorageError(f"'{name}' has a part of {_TOKEN_DIGITS} digits, like a token")
    return f"refs/{checked}/"


def _file(folder: str, token: int) -> str:
    return f"{folder}{token:0{_TOKEN_DIGITS}d}"


def _is_token(name: str) -> bool:
    return re.fullmatch(rf"[0-9]{{{_TOKEN_DIGITS}}}", name) is not None
