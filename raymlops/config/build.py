"""From layers to frozen, typed settings: every key known, every value of its type."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, to_json

from raymlops.config import schema as types
from raymlops.config.configured import Configured
from raymlops.config.layers import Key, Layer, nested
from raymlops.config.resolver import Resolver
from raymlops.config.secret import HiddenText, Secret, SecretUrl, redact
from raymlops.config.tree import dotted, mapped
from raymlops.config.variables import Variables

T = TypeVar("T")


def build(
    schema: type[T],
    layer: Layer,
    *,
    variables: Variables | None = None,
    secret_in: Collection[str] | None = None,
) -> Configured[T]:
    """An instance of the dataclass `schema` from merged settings.

    A reference makes a text a secret, hidden in `repr`, `explain`, errors and logs. In a number, or
    one of a few words, it is plain configuration.

    Args:
        variables: Those `${env:NAME}` may name.
        secret_in: The sections whose texts may be secrets, by default all. Elsewhere only a field
            of type `Secret` takes a reference.

    Raises:
        ConfigError: lists all that is wrong, each with its key and origin: unknown (with the
            nearest name), of another type, refused by the component that owns it, or a reference
            to what is not there.
    """
    sections = types.fields_of(schema) or {}
    resolver = Resolver(layer, variables or {}, sections if secret_in is None else secret_in)
    data = resolver.value(nested(layer.values), schema, ())
    try:
        settings = TypeAdapter(schema).validate_json(
            to_json(data, inf_nan_mode="constants", fallback=str), strict=True
        )
    except ValidationError as error:
        refused = error.errors(include_url=False)
    else:
        refused = []
    # Raised from here, since an error that pydantic's is the context of would show every value.
    for problem in refused:
        _add(problem, resolver, schema)
    resolver.problems.raise_any()
    shown = {key: resolver.found[key].shown for key in resolver.secrets}

    def hide(key: Key, value: Any) -> Any:
        if key not in shown or (isinstance(value, Secret) and not isinstance(value, SecretUrl)):
            return value
        if isinstance(value, SecretUrl):
            return SecretUrl(value.reveal(), shown[key])
        return HiddenText(value)

    return Configured(settings=mapped(settings, hide), origins=resolver.origins, shown=shown)


def _add(problem: ErrorDetails, resolver: Resolver, schema: Any) -> None:
    """Adds what pydantic found to the problems, unless it follows from one that is known."""
    key = tuple(str(part) for part in problem["loc"])
    if any(key[: len(absent)] == absent or absent[: len(key)] == key for absent in resolver.absent):
        return
    shown = "" if (text := _shown(problem, key, resolver, schema)) is None else f", not {text}"
    name = dotted(problem["loc"]) or "settings"
    message = problem["msg"].removeprefix("Value error, ")
    origin = _written(key, message, resolver) or resolver.origin(key)
    resolver.problems.add(redact(f"{origin}: {name}: {message}{shown}"))


def _written(section: Key, message: str, resolver: Resolver) -> str:
    """Where the settings of a section that a message names were written."""
    named = [
        origin
        for key, origin in resolver.origins.items()
        if key[:-1] == section and key[-1] in re.findall(r"\w+", message)
    ]
    return ", ".join(named)


def _shown(problem: ErrorDetails, key: Key, resolver: Resolver, schema: Any) -> str | None:
    """The refused value; None for a section, and for what may hold a secret."""
    value = problem["input"]
    if problem["type"] == "missing" or isinstance(value, dict | list):
        return None
    if types.holds_secret(types.type_at(schema, problem["loc"])):
        return None
    shown = repr(resolver.found[key].shown if key in resolver.found else value)
    if problem["type"] == "string_type" and isinstance(value, bool):
        words = "yes, on or true" if value else "no, off or false"
        shown += f": YAML takes {words} for that; a word is meant where it is in quotes"
    return shown
