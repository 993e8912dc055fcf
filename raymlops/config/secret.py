"""Texts that are never shown: passwords, tokens, URLs that carry either."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

from pydantic_core import CoreSchema, core_schema

HIDDEN = "***"

# Shorter texts cannot be told from ordinary words: hiding them would make messages unreadable.
_MIN_CHARS = 6

# From the first colon up to the last @, since people forget to quote what is in a password, and
# write one slash too many: better too much hidden than too little.
_PASSWORD = re.compile(r"(?<=://)(?P<before>[^:@]*:)(?P<secret>.*)(?=@)", re.DOTALL)
_QUERY = re.compile(
    r"(?P<before>[?&;][^=&;#]*(?:passw|pwd|secret|token|key|credential|signature)[^=&;#]*=)"
    r"(?P<secret>[^&;#]+)",
    re.IGNORECASE,
)

_known: set[str] = set()


class Secret:
    """A text that only `reveal()` tells; printed, logged or recorded it is `***`.

    No `str`, so that none of it slips into a message, a name or a JSON document: who needs the
    text has to ask for it. It pickles, and so crosses to workers as an argument.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text
        remember(text)

    def reveal(self) -> str:
        return self._text

    def __str__(self) -> str:
        return HIDDEN

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[type[Secret], tuple[str, ...]]:
        return type(self), (self._text,)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


class SecretUrl(Secret):
    """A URL or path that is shown without its password and its keys.

    `shown` is to be shown in its place, where more of it is secret; that loses a password too.
    """

    __slots__ = ("_shown",)

    def __init__(self, text: str, shown: str | None = None) -> None:
        # Its secret parts are remembered, not all of it: much of it is no secret.
        self._text = text
        self._shown = without_password(text if shown is None else shown)
        for pattern in (_PASSWORD, _QUERY):
            for match in pattern.finditer(text):
                remember(match["secret"])
                remember(unquote(match["secret"]))

    def __str__(self) -> str:
        return self._shown

    def __reduce__(self) -> tuple[type[Secret], tuple[str, ...]]:
        return type(self), (self._text, self._shown)


class HiddenText(str):
    """A text setting that came from a reference: as good as any text, but its `repr` is hidden."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(HIDDEN)


def remember(text: str) -> None:
    """Has `redact` hide `text` from now on, in this process."""
    if len(text) >= _MIN_CHARS:
        _known.update(_shapes(text))


def _shapes(text: str) -> set[str]:
    """As it may stand in a line: itself, or escaped by Python's repr or by JSON, and each of these
    within JSON, as an error that quotes it does in a log."""
    shapes = {text, repr(text)[1:-1], *_in_json(text)}
    return shapes.union(*map(_in_json, shapes))


def _in_json(text: str) -> tuple[str, str]:
    return json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1]


def redact(text: str) -> str:
    """`text` without any secret this process knows: for logs and errors on their way out."""
    for known in sorted(_known, key=len, reverse=True):
        text = text.replace(known, HIDDEN)
    return text


def without_password(url: str) -> str:
    """The URL with password and keys hidden; all of it, where it is too malformed to tell."""
    if "@" in url and "://" not in url:
        return HIDDEN
    return _QUERY.sub(rf"\g<before>{HIDDEN}", _PASSWORD.sub(rf"\g<before>{HIDDEN}", url))
