"""The settings tree checked for unknown keys, and its references replaced, as the types say."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any

import yaml

from raymlops.config import schema as types
from raymlops.config.configured import nearest
from raymlops.config.layers import Key, Layer
from raymlops.config.problems import Problems
from raymlops.config.reader import read_scalar
from raymlops.config.references import Resolved, Template, resolve
from raymlops.config.secret import remember
from raymlops.config.sources import ENVIRONMENT_PREFIX
from raymlops.config.texts import is_utf8
from raymlops.config.tree import dotted
from raymlops.config.variables import Variables
from raymlops.errors import ConfigError


class Resolver:
    """Walks raw values beside the types they are for.

    What references yielded is in `found`, and those keys whose value is a secret for it in
    `secrets`. What could not be had is in `absent`; a line of `problems` tells why.
    """

    def __init__(self, layer: Layer, variables: Variables, secret_in: Collection[str]) -> None:
        self._variables = variables
        self._secret_in = secret_in
        self.origins = dict(layer.origins)
        self.found: dict[Key, Resolved] = {}
        self.secrets: set[Key] = set()
        self.absent: set[Key] = set()
        self.problems = Problems()

    def value(self, raw: Any, schema: Any, key: Key) -> Any:
        """What `raw` comes to, None where a reference fails."""
        if isinstance(raw, Template):
            return self._resolved(raw, schema, key)
        if isinstance(raw, list):
            return [
                self.value(item, types.item_of(schema, index), (*key, str(index)))
                for index, item in enumerate(raw)
            ]
        if isinstance(raw, dict):
            return self._mapping(raw, schema, key)
        if isinstance(raw, str):
            return self._text(raw, key)
        return raw

    def origin(self, key: Key) -> str:
        """Where the value at `key`, or the section around it, or the first within, was written."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.origins:
                return self.origins[key[:length]]
        below = (told for path, told in self.origins.items() if path[: len(key)] == key)
        return next(below, "no file sets it")

    def _mapping(self, raw: dict[str, Any], schema: Any, key: Key) -> dict[str, Any]:
        fields = types.fields_of(types.named(schema, raw))
        values = {}
        for name, item in raw.items():
            path = (*key, str(name))
            if self._text(str(name), path) is None:
                continue
            if fields is not None and name not in fields:
                self._unknown(path, fields)
                continue
            kind = types.value_of(schema) if fields is None else fields[name]
            value = self.value(item, kind, path)
            if path not in self.absent:
                values[name] = value
        return values

    def _text(self, text: str, key: Key) -> str | None:
        """The text, None where a ledger or a URL could not hold it."""
        if is_utf8(text):
            return text
        self.problems.add(f"{self.origin(key)}: {dotted(key)}: is no UTF-8 text")
        self.absent.add(key)
        return None

    def _unknown(self, key: Key, fields: Collection[str]) -> None:
        where = f"section '{dotted(key[:-1])}' has" if key[1:] else "the settings have"
        self.problems.add(
            f"{self.origin(key)}: '{dotted(key)}' is no setting{nearest(key[-1], fields)} "
            f"({where}: {', '.join(sorted(fields))})"
        )

    def _resolved(self, template: Template, schema: Any, key: Key) -> Any:
        try:
            found = self._read(template, schema, key)
        except ConfigError as error:
            for line in str(error).splitlines():
                self.problems.add(f"{self.origin(key)}: {dotted(key)}: {line}")
            self.absent.add(key)
            return None
        return self._text(found, key) if isinstance(found, str) else found

    def _read(self, template: Template, schema: Any, key: Key) -> Any:
        secret = types.is_secret(schema) or types.is_text(schema)
        if types.is_text(schema) and not types.is_secret(schema) and key[0] not in self._secret_in:
            setting = itertools.takewhile(lambda part: not part.isdigit(), key)
            variable = ENVIRONMENT_PREFIX + "__".join(setting).upper()
            raise ConfigError(
                "takes no reference: what one yields is a secret, and this setting is recorded "
                f"with every run; write it here, or set the variable {variable}"
            )
        found = self.found[key] = resolve(template, self._variables)
        self.origins[key] = ", ".join((self.origin(key), *found.sources))
        if secret and found.secrets:
            self.secrets.add(key)
            for text in found.secrets:
                remember(text)
        return _number(found) if types.is_number(schema) else found.text


def _number(found: Resolved) -> Any:
    try:
        return read_scalar(found.text)
    except yaml.YAMLError:
        return found.text  # which is no number; validation says so
