"""Engines: what runs a bundle, chosen by its format."""

from raymlops.serve.engines.base import Engine
from raymlops.serve.engines.discreet import Discreet
from raymlops.serve.engines.isolated import IsolatedRunner
from raymlops.serve.engines.registry import ENGINES, engine_for
from raymlops.serve.engines.runner import BundleRunner, check_cpus, pin
from raymlops.serve.engines.settings import EngineName, EngineSettings

__all__ = [
    "ENGINES",
    "BundleRunner",
    "Discreet",
    "Engine",
    "EngineName",
    "EngineSettings",
    "IsolatedRunner",
    "check_cpus",
    "engine_for",
    "pin",
]
