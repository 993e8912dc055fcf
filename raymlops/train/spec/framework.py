"""Whose spec a file holds: its `framework` says so."""

from __future__ import annotations

from raymlops.config import Layer
from raymlops.errors import ConfigError

_KEY = ("framework",)


def framework_of(layer: Layer, known: tuple[str, ...]) -> tuple[str, Layer]:
    """The framework that a layer names, the first one known where it names none; and the rest.

    Raises:
        ConfigError: it names another one.
    """
    name = layer.values.get(_KEY, known[0])
    if name not in known:
        ways = "" if len(known) > 1 else " here; raymlops.train.backend.read_spec reads all"
        raise ConfigError(
            f"{layer.origins[_KEY]}: framework is {name!r}; it is {' or '.join(known)}{ways}"
        )
    values = {key: value for key, value in layer.values.items() if key != _KEY}
    return name, Layer(values=values, origins=layer.origins)
