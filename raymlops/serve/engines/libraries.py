"""Engines that are the model's own library, or nothing but Python."""

from __future__ import annotations

from raymlops.serve.engines.base import FormatEngine


class SklearnEngine(FormatEngine):
    name = "sklearn"
    formats = frozenset({"pickle", "joblib", "skops"})


class PmmlEngine(FormatEngine):
    name = "pmml"
    formats = frozenset({"pmml"})


class PythonEngine(FormatEngine):
    name = "python"
    formats = frozenset({"python"})
