"""Layers of settings: files, environment variables, overrides, each key with its origin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from raymlops.errors import ConfigError

ENVIRONMENT_PREFIX = "RAYMLOPS__"

Key = tuple[str, ...]
"""The path of a setting, e.g. ("serve", "port")."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Leaf values by key, each with where it was written (FILE:LINE, a variable, an option)."""

    values: Mapping[Key, Any]
    origins: Mapping[Key, str]


def file_layer(path: Path) -> Layer:
    """The settings of a YAML file.

    Raises:
        ConfigError: the file is missing, malformed, no mapping, or names a key twice.
    """
    try:
        node = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no configuration file {path}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {error}") from error
    values: dict[Key, Any] = {}
    origins: dict[Key, str] = {}
    if node is not None:
        _collect(node, (), path, values, origins)
    return Layer(values=values, origins=origins)


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """Settings written as RAYMLOPS__SECTION__KEY=value, the value read as YAML."""
    names = sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX))
    keys = {
        tuple(part.lower() for part in name.removeprefix(ENVIRONMENT_PREFIX).split("__")): name
        for name in names
    }
    return Layer(
        values={key: _scalar(environ[name], name) for key, name in keys.items()},
        origins={key: f"variable {name}" for key, name in keys.items()},
    )


def override_layer(assignments: Iterable[str]) -> Layer:
    """Settings written as section.key=value on the command line.

    Raises:
        ConfigError: an assignment has no `=` or no key.
    """
    values: dict[Key, Any] = {}
    origins: dict[Key, str] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set {assignment} is not KEY=VALUE, e.g. --set serve.port=9000")
        key = tuple(name.split("."))
        values[key] = _scalar(text, f"--set {name}")
        origins[key] = f"option --set {assignment}"
    return Layer(values=values, origins=origins)


def merge(layers: Iterable[Layer]) -> Layer:
    """One layer in which later ones win key by key; a list is replaced as a whole."""
    values: dict[Key, Any] = {}
    origins: dict[Key, str] = {}
    for layer in layers:
        for key, value in layer.values.items():
            for other in [k for k in values if _covers(k, key) or _covers(key, k)]:
                del values[other], origins[other]
            values[key] = value
            origins[key] = layer.origins[key]
    return Layer(values=values, origins=origins)


def nested(values: Mapping[Key, Any]) -> dict[str, Any]:
    """Leaf values as nested dictionaries."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        branch = tree
        for part in key[:-1]:
            branch = branch.setdefault(part, {})
        branch[key[-1]] = value
    return tree


def _covers(outer: Key, inner: Key) -> bool:
    return len(outer) <= len(inner) and inner[: len(outer)] == outer


def _collect(
    node: yaml.Node, key: Key, path: Path, values: dict[Key, Any], origins: dict[Key, str]
) -> None:
    where = f"{path}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name_node, child in node.value:
            name = str(name_node.value)
            line = f"{path}:{name_node.start_mark.line + 1}"
            if name in seen:
                raise ConfigError(f"{line}: '{'.'.join((*key, name))}' is given twice")
            seen.add(name)
            _collect(child, (*key, name), path, values, origins)
            if (*key, name) in origins:
                origins[(*key, name)] = line
        return
    if not key:
        raise ConfigError(f"{where}: a configuration file is a mapping of settings")
    loader = yaml.SafeLoader("")
    values[key] = loader.construct_object(node, deep=True)
    origins[key] = where


def _scalar(text: str, source: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: '{text}' is no YAML value: {error}") from error
