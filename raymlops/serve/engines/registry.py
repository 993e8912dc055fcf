"""The engines there are, and which one runs a bundle."""

from __future__ import annotations

from raymlops.errors import ModelError
from raymlops.serve.engines.base import Engine
from raymlops.serve.engines.keras import KerasEngine
from raymlops.serve.engines.libraries import PmmlEngine, PythonEngine, SklearnEngine
from raymlops.serve.engines.onnx import OnnxEngine
from raymlops.serve.engines.settings import EngineSettings
from raymlops.serve.engines.torch import TorchEngine

ENGINES: tuple[Engine, ...] = (
    OnnxEngine(), TorchEngine(), KerasEngine(), SklearnEngine(), PmmlEngine(), PythonEngine(),
)  # fmt: skip

_ONLY = {"graph_level": "onnx", "io_binding": "onnx", "compile": "torch"}


def engine_for(format: str, settings: EngineSettings) -> Engine:
    """The engine for bundles of that format.

    Raises:
        ModelError: the settings name another, or ask for what that engine does not have.
    """
    for engine in ENGINES:
        if format in engine.formats:
            break
    else:
        raise ModelError(f"no engine runs {format}; there are {', '.join(e.name for e in ENGINES)}")
    if settings.engine not in (None, engine.name):
        raise ModelError(
            f"engine is {settings.engine}, but the bundle is {format}, which {engine.name} runs: "
            "leave engine out, or register it in another format, see `raymlops models convert`"
        )
    for name, only in _ONLY.items():
        if engine.name != only and getattr(settings, name) != getattr(EngineSettings, name):
            raise ModelError(f"{name} is a setting of {only}; {format} is run by {engine.name}")
    return engine
