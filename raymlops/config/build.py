"""From layers to frozen, typed settings: every key known, every value of its type."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from raymlops.config.layers import Key, Layer, nested
from raymlops.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Configured(Generic[T]):
    """Settings and where each of their values came from."""

    settings: T
    origins: Mapping[Key, str]

    def explain(self, name: str) -> tuple[tuple[str, Any, str], ...]:
        """(key, value, origin) of the setting `name`, or of every setting in that section.

        Raises:
            ConfigError: there is no such setting; names the nearest.
        """
        leaves = {".".join(key): (key, value) for key, value in _leaves(self.settings, ())}
        chosen = {
            key: leaf for key, leaf in leaves.items() if key == name or key.startswith(f"{name}.")
        }
        if not chosen:
            raise ConfigError(f"there is no setting '{name}'{_nearest(name, leaves)}")
        return tuple((key, value, self._origin(path)) for key, (path, value) in chosen.items())

    def _origin(self, key: Key) -> str:
        for length in range(len(key), 0, -1):
            if key[:length] in self.origins:
                return self.origins[key[:length]]
        return "default"


def build(schema: type[T], layer: Layer) -> Configured[T]:
    """An instance of the dataclass `schema` from merged settings.

    Raises:
        ConfigError: names the key, its origin, and what is wrong: unknown (with the nearest name),
            of another type, or refused by the component that owns it.
    """
    for key in layer.values:
        _check_known(schema, key, layer.origins[key])
    for key, value in layer.values.items():
        _check_nested(schema, key, value, layer.origins[key])
    data = orjson.dumps(nested(layer.values))
    try:
        settings = TypeAdapter(schema).validate_json(data, strict=True)
    except ValidationError as error:
        raise ConfigError(_describe(error, layer)) from error
    return Configured(settings=settings, origins=layer.origins)


def _check_known(schema: Any, key: Key, origin: str) -> None:
    for depth, part in enumerate(key):
        fields = _fields(schema)
        if fields is None:
            return  # inside a free mapping
        if part not in fields:
            section = ".".join(key[:depth])
            where = f"section '{section}'" if section else "the settings"
            raise ConfigError(
                f"{origin}: '{'.'.join(key[: depth + 1])}' is no setting{_nearest(part, fields)} "
                f"({where} have: {', '.join(sorted(fields))})"
            )
        schema = fields[part]


def _check_nested(schema: Any, key: Key, value: Any, origin: str) -> None:
    """Unknown keys inside lists of sections, which are leaves to the layers."""
    for part in key:
        fields = _fields(schema)
        if fields is None:
            return
        schema = fields[part]
    if not isinstance(value, list) or typing.get_origin(schema) is not tuple:
        return
    fields = _fields(typing.get_args(schema)[0])
    if fields is None:
        return
    for index, row in enumerate(value):
        for name in row if isinstance(row, dict) else ():
            if name not in fields:
                raise ConfigError(
                    f"{origin}: '{'.'.join(key)}[{index}].{name}' is no setting"
                    f"{_nearest(name, fields)}"
                )


def _fields(schema: Any) -> dict[str, Any] | None:
    """Types by field name of a dataclass, or of the dataclass in `X | None`."""
    if typing.get_origin(schema) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(schema) if member is not type(None)]
        schema = members[0] if len(members) == 1 else None
    if not dataclasses.is_dataclass(schema):
        return None
    return typing.get_type_hints(schema)


def _leaves(value: Any, key: Key) -> Iterator[tuple[Key, Any]]:
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _leaves(getattr(value, field.name), (*key, field.name))
    else:
        yield key, value


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def _describe(error: ValidationError, layer: Layer) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        key = tuple(str(part) for part in problem["loc"])
        origin = next(
            (layer.origins[key[:n]] for n in range(len(key), 0, -1) if key[:n] in layer.origins),
            "no file sets it",
        )
        shown = "" if problem["type"] == "missing" else f", not {problem['input']!r}"
        lines.append(f"{origin}: {'.'.join(key) or 'settings'}: {problem['msg']}{shown}")
    return "\n".join(lines)
