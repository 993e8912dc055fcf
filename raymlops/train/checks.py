"""What a spec written in Python is held to as one in YAML is by its reader, and names in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from numbers import Integral, Real
from reprlib import Repr
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_NUM_SHOWN = 3
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "True or False",
    tuple: "a tuple",
    Mapping: "a mapping",
    NoneType: "None",
}


def require_types(spec: Any) -> None:
    """Makes each field of a dataclass what its annotation says: lists become tuples, and numbers
    of numpy those of Python, which a ledger can hold.

    Raises:
        ValueError: a field cannot become that; names it, its value and what it is to be.
    """
    for name, kind in _kinds(spec.__class__).items():
        object.__setattr__(spec, name, _held(name, getattr(spec, name), kind))


@cache
def _kinds(spec: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(spec)
    return {each.name: hints[each.name] for each in fields(spec)}


def _held(name: str, value: Any, kind: Any) -> Any:
    """The value as one of that kind."""
    alternatives = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    fitting = next((each for each in alternatives if _fits(value, each)), None)
    if fitting is None:
        *others, last = [word for each in alternatives for word in _words(each)]
        told = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"{name} is {_SHORT.repr(value)}; it is {told}")
    origin, parts = get_origin(fitting), get_args(fitting)
    if origin is tuple:
        return tuple(_held(f"an element of {name}", each, parts[0]) for each in value)
    if isinstance(value, Mapping) and parts:
        for key, each in value.items():
            _held(f"a key of {name}", key, parts[0])
            _held(f"{name} of {key}", each, parts[1])
    return _plain(value)


def _fits(value: Any, kind: Any) -> bool:
    """Whether it is one of that kind, whatever is in it."""
    origin = get_origin(kind)
    if kind is Any:
        return True
    if origin is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if origin is tuple:
        return isinstance(value, list | tuple)
    if kind in (int, float):  # numpy's are, too
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return isinstance(value, origin or kind)


def _words(kind: Any) -> Iterator[str]:
    """What to call a value of that kind, in one word or several to choose from."""
    origin = get_origin(kind)
    if origin is Literal:
        yield from get_args(kind)
    elif isinstance(kind, type) and is_dataclass(kind):
        yield f"{kind.__name__}({fields(kind)[0].name}=...)"
    else:
        yield _WORDS.get(origin or kind, f"a {getattr(kind, '__name__', kind)}")


def _plain(value: Any) -> Any:
    if isinstance(value, Real) and not isinstance(value, bool | int | float):
        return int(value) if isinstance(value, Integral) else float(value)
    return value


def require_counts(spec: object, *names: str) -> None:
    """Raises ValueError unless each of these fields, whole numbers or None, is at least 1."""
    values = {name: getattr(spec, name) for name in names}
    if wrong := {name: n for name, n in values.items() if n is not None and n < 1}:
        told = ", ".join(f"{name} is {value}" for name, value in wrong.items())
        raise ValueError(f"{told}; each is at least 1")


def require_positive(name: str, value: float, otherwise: str = "") -> None:
    """Raises ValueError unless `value` is; neither is what is no number, or infinite."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}; it is positive and finite{otherwise}")


def require_known(
    kind: str, name: str, known: Iterable[str], *, own: str = "module:function"
) -> None:
    """Raises ValueError unless something of that name is among the known; `own` is how to write
    one that is not."""
    if name not in known:
        raise ValueError(
            f"there is no {kind} '{name}'; known: {', '.join(known)}, or one of your own as {own}"
        )


def shown(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    told, more = ", ".join(names[:_NUM_SHOWN]), len(names) - _NUM_SHOWN
    return told if more <= 0 else f"{told} and {more} more"
