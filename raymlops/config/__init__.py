"""Layered YAML into frozen typed settings, with the origin of every key."""

from raymlops.config.build import Configured, build
from raymlops.config.layers import (
    Layer,
    environment_layer,
    file_layer,
    merge,
    override_layer,
)

__all__ = [
    "Configured",
    "Layer",
    "build",
    "environment_layer",
    "file_layer",
    "merge",
    "override_layer",
]
