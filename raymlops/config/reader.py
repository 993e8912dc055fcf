"""YAML taken apart into a layer, every setting, section and item with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from raymlops.config.layers import Key, Layer
from raymlops.config.problems import Problems
from raymlops.config.references import parse
from raymlops.config.tree import dotted
from raymlops.errors import ConfigError

# A mapping that contains itself is deeper than any.
_MAX_DEPTH = 32


def read_scalar(text: str) -> Any:
    """The number, truth value or text that YAML takes `text` for.

    Raises:
        yaml.YAMLError: it is no YAML.
    """
    return yaml.load(text, Loader=_Loader)


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number, as YAML 1.2 and everybody else does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+"),
    list("-+0123456789"),
)


def read(text: str, key: Key, *, place: Callable[[int], str], folder: Path = Path()) -> Layer:
    """The settings that `text` gives to what is at `key`; `place` names a line of it."""
    reader = _Reader(place, folder)
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(_no_yaml(error, place)) from None
    if node is not None:
        reader.collect(node, key)
    elif key:
        reader.add(key, None, 1)
    reader.problems.raise_any()
    return Layer(values=reader.values, origins=reader.origins)


class _Reader:
    """Gathers values, origins and problems from a YAML tree."""

    def __init__(self, place: Callable[[int], str], folder: Path) -> None:
        self._place = place
        self._folder = folder
        self.values: dict[Key, Any] = {}
        self.origins: dict[Key, str] = {}
        self.problems = Problems()

    def collect(self, node: yaml.Node, key: Key, line: int | None = None) -> None:
        line = line or node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode) or (key and not node.value):
            self._leaf(node, key, line)
            return
        if len(key) > _MAX_DEPTH:
            self._refuse(line, f"'{dotted(key[:4])}...' is nested deeper than any setting")
            return
        if key:
            self.origins[key] = self._place(line)
        for name, child, child_line in self._children(node, key):
            self.collect(child, (*key, name), child_line)

    def add(self, key: Key, value: Any, line: int) -> None:
        self.values[key] = value
        self.origins[key] = self._place(line)

    def _leaf(self, node: yaml.Node, key: Key, line: int) -> None:
        if not key:
            self._refuse(line, "a configuration file is a mapping of settings")
            return
        try:
            value = parse(_Loader("").construct_object(node, deep=True), self._folder)
        except ConfigError as error:
            self._refuse(line, f"{dotted(key)}: {error}")
        except (yaml.YAMLError, ValueError) as error:  # ValueError: the 30th of February
            problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
            self._refuse(line, f"{dotted(key)}: {problem}")
        else:
            self.add(key, value, line)
            self._place_items(node, key)

    def _place_items(self, node: yaml.Node, key: Key) -> None:
        for name, item, line in self._children(node, key):
            self.origins[(*key, name)] = self._place(line)
            self._place_items(item, (*key, name))

    def _children(self, node: yaml.Node, key: Key) -> Iterator[tuple[str, yaml.Node, int]]:
        """(name or index, node, line) of what a mapping or a list holds."""
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                yield str(index), item, item.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for name_node, child in node.value:
                name, line = str(name_node.value), name_node.start_mark.line + 1
                if name in seen:
                    self._refuse(line, f"'{dotted((*key, name))}' is given twice")
                    continue
                seen.add(name)
                yield name, child, line

    def _refuse(self, line: int, problem: str) -> None:
        self.problems.add(f"{self._place(line)}: {problem}")


def _no_yaml(error: yaml.YAMLError, place: Callable[[int], str]) -> str:
    """What is wrong and where, without quoting the text: it may hold a secret."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{place(mark.line + 1)}: is no YAML: {error.problem}, column {mark.column + 1}"
    return f"{place(1)}: is no YAML"
