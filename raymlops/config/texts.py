"""Texts that Python holds and hardly anything else: bytes of a path, a variable or an argument that
are no UTF-8, which it keeps as halves of characters."""

from __future__ import annotations


def is_utf8(text: str) -> bool:
    """Whether a ledger, a URL or a JSON document can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def writable(text: str) -> str:
    """The text with such bytes as escapes, as stderr shows them."""
    return text.encode(errors="backslashreplace").decode()
