"""To whom a connection goes, by what its client sent first: pure functions of bytes and paths."""

from __future__ import annotations

import re
from urllib.parse import unquote

_REQUEST_LINE = re.compile(rb"(?:\r?\n)*[A-Z-]+ (?:https?://[^/ ]*)?(/[^ ?\r\n]*)")
_MODEL = re.compile(r"/v[12]/(?:repository/)?models/([^/:]+)")
_OF_ALL_MODELS = "/v2/models/stats"
_HEALTH = "/v2/health/"
_HEAD_END = b"\r\n\r\n"
# The blanks around it are left to `strip`: here a header of blanks alone would take the square of
# their number, 0.2 s for 4 KB, of the event loop by which everybody comes in.
_SESSION = re.compile(rb"\r\nx-session-id:([^\r\n]*)(?=\r\n)", re.IGNORECASE)


def path_of(sent: bytes) -> str | None:
    """The path that the bytes of a connection ask for; None while, or if, there is none.

    Only a path that is complete is told, so that none is taken for a shorter one.
    """
    found = _REQUEST_LINE.match(sent)
    if found is None or found.end() == len(sent):
        return None
    return unquote(found[1].decode("latin-1"))


def may_have_path(sent: bytes) -> bool:
    """Whether more bytes could still tell the path: it is HTTP so far, and no line is complete."""
    line = sent.lstrip(b"\r\n")
    return b"\n" not in line and re.fullmatch(rb"[A-Z-]*|[A-Z-]+ [^\r\n]*", line) is not None


def session_of(sent: bytes) -> str | None:
    """The session that the head of a request names, as Ray Serve reads it; None when there is none.

    Only a header that is complete is told, so that no session is taken for a shorter one.
    """
    head, end, _ = sent.partition(_HEAD_END)
    sessions = (found.strip(b" \t") for found in _SESSION.findall(head + end[:2]))
    return next((session.decode("latin-1") for session in sessions if session), None)


def may_have_session(sent: bytes) -> bool:
    """Whether more bytes could still tell the session: it is HTTP so far, and the head goes on."""
    return may_have_path(sent) or (path_of(sent) is not None and _HEAD_END not in sent)


def model_of(path: str) -> str | None:
    """The model a path names, in any of the protocols; None when it names none."""
    found = _MODEL.match(path)
    return None if found is None or path == _OF_ALL_MODELS else found[1]


def is_health(path: str) -> bool:
    """Whether a path asks after the server as a whole, which no replica can speak for."""
    return path.startswith(_HEALTH)
