"""JSON from strangers: read, and refused by name where it is not what it should be."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from types import NoneType
from typing import Any

import orjson

from raymlops.errors import RequestError
from raymlops.serve.inference import About

_MAX_ID_LENGTH = 256
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_MAX_TIMEOUT_US = 3_600_000_000
_LEAST_URGENT = 9
# Nobody's event; the calendar arithmetic of windows and plots ends at neither of them.
_FIRST_YEAR, _LAST_YEAR = 1970, 2200


def load(body: bytes | memoryview) -> tuple[Any, bool]:
    """The document in `body`, and whether it is strictly JSON: else it may hold NaN, Infinity,
    huge numbers and texts that are not Unicode.

    Raises:
        RequestError: 400, when it cannot be read at all.
    """
    try:
        return orjson.loads(body), True
    except orjson.JSONDecodeError as strict:
        # Python's parser takes all that, so that what is wrong can be told of the field it is in.
        try:
            return json.loads(bytes(body)), False
        except (ValueError, RecursionError):
            raise RequestError(400, f"the body is not JSON: {strict}") from strict


def about(request_id: Any, parameters: Mapping[str, Any]) -> About:
    """What a request says of itself."""
    name = secrets.token_hex(16) if request_id in (None, "") else identifier(request_id, "id")
    if not parameters:
        return About(name, name)
    key = parameters.get("key")
    when = parameters.get("event_time")
    return About(
        name,
        name if "key" not in parameters else identifier(key, "parameters.key"),
        None if when is None else _time(when),
        _timeout_s(parameters.get("timeout")),
        _priority(parameters.get("priority")),
    )


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(400, f"{where} holds {kind_of(value)} where an object belongs")
    return value


def sequence(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise RequestError(400, f"{where} is {kind_of(value)}, not a list")
    return value


def text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise RequestError(400, f"{where} is {shown(value)}, not text")
    if len(value) > _MAX_ID_LENGTH:
        raise RequestError(400, f"{where} has {len(value)} characters, over {_MAX_ID_LENGTH}")
    if not is_unicode(value):
        raise RequestError(400, f"{where} is not valid Unicode")
    return value


def identifier(value: Any, where: str) -> str:
    """A text that a header, a line of a log and every ledger can hold."""
    if isinstance(value, str) and value.isprintable() and len(value) <= _MAX_ID_LENGTH:
        return value  # as nearly all are: neither a control character nor a lone surrogate prints
    name = text(value, where)
    if (control := _CONTROLS.search(name)) is not None:
        raise RequestError(
            400, f"{where} holds the control character {control[0]!r}; leave such ones out"
        )
    return name


def is_unicode(value: str) -> bool:
    """Whether `value` has no lone surrogates, which JSON can write and UTF-8 cannot."""
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def shown(value: Any) -> str:
    """`value` for an error message: short, and never costly to write out."""
    if isinstance(value, str):
        return repr(value[:40])
    if isinstance(value, float | NoneType | bool):
        return repr(value)
    return {int: "a whole number", list: "a list", dict: "an object"}[type(value)]


def kind_of(value: Any) -> str:
    """What `value` is, where whoever reads of it may not see the value itself."""
    if isinstance(value, str):
        return "a text"
    return "a number" if isinstance(value, float) else shown(value)


def _time(value: Any) -> datetime:
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is not None and _FIRST_YEAR <= time.year <= _LAST_YEAR:
            return time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        pass
    raise RequestError(
        400,
        f"parameters.event_time is {shown(value)}, not a time from {_FIRST_YEAR} to {_LAST_YEAR} "
        "with its zone, e.g. 2013-07-01T12:00:00Z",
    )


def _timeout_s(value: Any) -> float | None:
    """Triton's `timeout`: microseconds until nobody waits for the answer; 0 is no limit."""
    if value is None or value == 0:
        return None
    if type(value) is not int or not 0 < value <= _MAX_TIMEOUT_US:
        raise RequestError(
            400, f"parameters.timeout is {shown(value)}, not microseconds up to an hour"
        )
    return value / 1e6


def _priority(value: Any) -> int:
    """Triton's `priority`, 1 being the most urgent and 0 that of all who say nothing; the
    batcher's, where more is more urgent."""
    if value is None or value == 0:
        return 0
    if type(value) is not int or not 1 <= value <= _LEAST_URGENT:
        raise RequestError(
            400, f"parameters.priority is {shown(value)}, not within 0 and {_LEAST_URGENT}"
        )
    return _LEAST_URGENT + 1 - value
