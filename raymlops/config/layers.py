"""Layers of settings, each key with its origin, and how they merge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Key = tuple[str, ...]
"""The path of a setting, e.g. ("serve", "port")."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Values by key, each with where it was written (FILE:LINE, a variable, an option).

    Values are in the order of their writing: one below a key follows, and so amends, one at the
    key itself. Sections and items of lists have origins too. References are unresolved.
    """

    values: Mapping[Key, Any]
    origins: Mapping[Key, str]


def merge(layers: Iterable[Layer]) -> Layer:
    """One layer in which later ones win key by key; a list is replaced as a whole.

    A value given for a section, such as null, replaces all of it. Merging is associative.
    """
    values: dict[Key, Any] = {}
    origins: dict[Key, str] = {}
    for layer in layers:
        for key, value in layer.values.items():
            for known in (values, origins):
                for replaced in [other for other in known if other[: len(key)] == key]:
                    del known[replaced]
            values[key] = value
        origins |= layer.origins
    return Layer(values=values, origins=origins)


def nested(values: Mapping[Key, Any]) -> dict[str, Any]:
    """The values as nested dictionaries of their own."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        branch = tree
        for part in key[:-1]:
            below = branch.get(part)
            if not isinstance(below, dict):
                below = branch[part] = {}
            branch = below
        branch[key[-1]] = dict(value) if isinstance(value, dict) else value
    return tree
