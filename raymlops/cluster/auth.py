"""Ray's shared token: where it is, and that nobody else can read it."""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path

from raymlops.errors import ClusterError

_logger = logging.getLogger(__name__)

_OTHERS = 0o077


def token_auth_wanted() -> bool:
    """Whether a Ray started here asks for a token: yes, unless RAY_AUTH_MODE says "disabled"."""
    mode = os.environ.get("RAY_AUTH_MODE", "token").lower()
    if mode not in ("token", "disabled"):
        raise ClusterError(f"RAY_AUTH_MODE is {mode!r}, expected 'token' or 'disabled'")
    return mode == "token"


def token_path() -> Path:
    """The token file, in the place where Ray looks for it."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def find_token() -> str | None:
    """The token as Ray would find it: RAY_AUTH_TOKEN, else the token file.

    Raises:
        ClusterError: this user may not read the file.
    """
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    try:
        return token_path().read_text().strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _out_of_reach(error) from error


def ensure_token() -> str:
    """The token, made on first use; its file is closed to everybody but its owner.

    Ray makes the file itself otherwise, readable by every user of the machine.

    Raises:
        ClusterError: the file cannot be read or made, or is empty.
    """
    if find_token() is None:
        try:
            _create(token_path())
        except OSError as error:
            raise _out_of_reach(error) from error
    token = find_token()
    if token is None:
        raise ClusterError(f"{token_path()} is empty: delete it, and a new token will be made")
    if token_path().exists():
        _close_to_others(token_path())
    return token


def open_to_others(path: Path) -> bool:
    """Whether users other than the owner may read or write `path`."""
    return bool(path.stat().st_mode & _OTHERS)


def _out_of_reach(error: OSError) -> ClusterError:
    return ClusterError(
        f"Ray's token is kept in {token_path()}: {error.strerror}; set HOME, or "
        "RAY_AUTH_TOKEN_PATH, to where this user may write"
    )


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        os.link(draft, path)  # atomic, and keeps the token of a process that was faster
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)


def _close_to_others(path: Path) -> None:
    if not open_to_others(path):
        return
    try:
        path.chmod(0o600)
    except OSError as error:
        _logger.warning("other users can read the Ray token %s: %s", path, error)
