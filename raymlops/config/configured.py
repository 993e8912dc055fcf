"""Settings that know where each of their values came from."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from raymlops.config.layers import Key
from raymlops.config.secret import Secret
from raymlops.config.tree import dotted, leaves, mapped
from raymlops.errors import ConfigError

T = TypeVar("T")

DEFAULT = "default"
"""The origin of a value nobody set."""


@dataclass(frozen=True, kw_only=True)
class Configured(Generic[T]):
    """Settings, where their values came from, and what to show of those that are secret."""

    settings: T
    origins: Mapping[Key, str]
    shown: Mapping[Key, str] = field(repr=False)

    def explain(self, name: str = "") -> tuple[tuple[str, Any, str], ...]:
        """(key, value, origin) of the setting `name`, or of every setting in that section; by
        default of all. Secrets are hidden.

        Raises:
            ConfigError: there is no such setting; names the nearest.
        """
        rows = {
            dotted(key): (key, value) for key, value in leaves(mapped(self.settings, self._shown))
        }
        chosen = {
            key: row
            for key, row in rows.items()
            if not name or key == name or key.startswith((f"{name}.", f"{name}["))
        }
        if not chosen:
            raise ConfigError(f"there is no setting '{name}'{nearest(name, rows)}")
        return tuple((key, value, self._origin(path)) for key, (path, value) in chosen.items())

    def is_set(self, section: str) -> bool:
        """Whether somebody has set anything in that section: a default is nobody's wish."""
        path = tuple(section.split("."))
        return any(key[: len(path)] == path for key in self.origins)

    def _shown(self, key: Key, value: Any) -> Any:
        return str(value) if isinstance(value, Secret) else self.shown.get(key, value)

    def _origin(self, key: Key) -> str:
        return self.origins.get(key, DEFAULT)


def nearest(name: str, known: Iterable[str], *, likeness: float = 0.5) -> str:
    """What an error asks of a name that is not among `known`, nothing where none is like it."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)
    return f"; did you mean '{near[0]}'?" if near else ""
