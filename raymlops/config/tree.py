"""Settings trees walked leaf by leaf."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from raymlops.config.layers import Key


def leaves(value: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """(key, value) of what holds nothing further; a list is a leaf unless it holds sections."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), (*key, field.name))
    elif isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from leaves(item, (*key, str(name)))
    elif isinstance(value, tuple | list) and any(map(dataclasses.is_dataclass, value)):
        for index, item in enumerate(value):
            yield from leaves(item, (*key, str(index)))
    else:
        yield key, value


def mapped(value: Any, change: Callable[[Key, Any], Any], key: Key = ()) -> Any:
    """The tree with `change(key, value)` in place of every leaf, items of lists among them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {
            field.name: mapped(getattr(value, field.name), change, (*key, field.name))
            for field in dataclasses.fields(value)
            if field.init
        }
        return dataclasses.replace(value, **changed)
    if isinstance(value, Mapping):
        return {name: mapped(item, change, (*key, str(name))) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(
            mapped(item, change, (*key, str(index))) for index, item in enumerate(value)
        )
    return change(key, value)


def dotted(key: tuple[str | int, ...]) -> str:
    """The key as people write it, e.g. data.features[0].name"""
    text = ""
    for part in key:
        index = isinstance(part, int) or part.isdigit()
        text += f"[{part}]" if index else f".{part}" if text else str(part)
    return text
