"""What the types of a settings tree allow at each place."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from raymlops.config.secret import Secret

_NUMBERS = (bool, int, float)


def members(schema: Any) -> tuple[Any, ...]:
    """The types of a union without None; any other type alone."""
    if typing.get_origin(schema) is typing.Annotated:
        schema = typing.get_args(schema)[0]
    if typing.get_origin(schema) in (typing.Union, types.UnionType):
        return tuple(
            inner
            for member in typing.get_args(schema)
            if member is not type(None)
            for inner in members(member)
        )
    return (schema,)


def fields_of(schema: Any) -> dict[str, Any] | None:
    """Types by field name of a dataclass, or of all dataclasses of a union; None for others."""
    sections = [member for member in members(schema) if dataclasses.is_dataclass(member)]
    if not sections:
        return None
    return {name: kind for section in reversed(sections) for name, kind in _fields(section).items()}


def named(schema: Any, values: Mapping[str, Any]) -> Any:
    """Of several dataclasses the one that a field of a single word names, as {"rule": "range"} does
    one whose `rule` is Literal["range"]; `schema` itself where `values` name none."""
    for section in members(schema):
        kinds = _fields(section) if dataclasses.is_dataclass(section) else {}
        if any(
            typing.get_origin(kind) is typing.Literal
            and typing.get_args(kind) == (values.get(name),)
            for name, kind in kinds.items()
        ):
            return section
    return schema


def _fields(section: Any) -> dict[str, Any]:
    kinds = typing.get_type_hints(section)
    return {field.name: kinds[field.name] for field in dataclasses.fields(section)}


def item_of(schema: Any, index: int) -> Any:
    """The type of a list's item."""
    for member in members(schema):
        origin, arguments = typing.get_origin(member), typing.get_args(member)
        if origin is tuple and arguments[-1] is not Ellipsis:
            return arguments[index] if index < len(arguments) else Any
        if isinstance(origin, type) and not issubclass(origin, Mapping) and arguments:
            return arguments[0]
    return Any


def value_of(schema: Any) -> Any:
    """The type of a free mapping's values."""
    for member in members(schema):
        origin = typing.get_origin(member)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return typing.get_args(member)[1]
    return Any


def type_at(schema: Any, path: tuple[str | int, ...]) -> Any:
    """The type of what lies at `path` below a value of type `schema`; Any where that is unclear."""
    for part in path:
        if isinstance(part, int):
            schema = item_of(schema, part)
        else:
            schema = (fields_of(schema) or {}).get(part, value_of(schema))
    return schema


def is_secret(schema: Any) -> bool:
    return any(
        isinstance(member, type) and issubclass(member, Secret) for member in members(schema)
    )


def is_text(schema: Any) -> bool:
    """Whether any text is a value of this type; not so for one of a few words, or a duration."""
    return any(member in (str, Any) for member in members(schema))


def is_number(schema: Any) -> bool:
    """Whether values are numbers or truth values, and nothing else."""
    return all(member in _NUMBERS for member in members(schema))


def holds_secret(schema: Any) -> bool:
    """Whether a secret may lie at or below a value of this type."""
    if is_secret(schema):
        return True
    below = (fields_of(schema) or {}).values()
    return any(holds_secret(kind) for kind in below) or any(
        holds_secret(argument) for member in members(schema) for argument in typing.get_args(member)
    )
