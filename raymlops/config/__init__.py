"""Layered YAML into frozen typed settings, with the origin of every key; secrets by reference.

    layer = merge([file_layer(path), environment_layer(variables), override_layer(["port=9000"])])
    configured = build(Settings, layer, variables=variables)

`references` tells how secrets are written, `Secret` and `redact` how they stay unseen.
"""

from raymlops.config.build import build
from raymlops.config.configured import DEFAULT, Configured
from raymlops.config.differences import differences
from raymlops.config.durations import MOST_DAYS, MOST_S, check_durations
from raymlops.config.layers import Layer, merge
from raymlops.config.problems import Problems
from raymlops.config.references import literal
from raymlops.config.secret import HIDDEN, Secret, SecretUrl, redact
from raymlops.config.sources import environment_layer, file_layer, override_layer
from raymlops.config.texts import is_utf8, writable
from raymlops.config.variables import (
    Variable,
    Variables,
    dotenv_variables,
    environment_variables,
)

__all__ = [
    "DEFAULT",
    "HIDDEN",
    "MOST_DAYS",
    "MOST_S",
    "Configured",
    "Layer",
    "Problems",
    "Secret",
    "SecretUrl",
    "Variable",
    "Variables",
    "build",
    "check_durations",
    "differences",
    "dotenv_variables",
    "environment_layer",
    "environment_variables",
    "file_layer",
    "is_utf8",
    "literal",
    "merge",
    "override_layer",
    "redact",
    "writable",
]
