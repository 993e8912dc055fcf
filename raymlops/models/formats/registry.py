"""The formats there are, by name and by the suffix of a file."""

from __future__ import annotations

from pathlib import Path

from raymlops.errors import ModelError
from raymlops.models.formats.base import Format
from raymlops.models.formats.keras import Keras, KerasWeights
from raymlops.models.formats.onnx import Onnx
from raymlops.models.formats.pickled import Joblib, Pickle
from raymlops.models.formats.pmml import Pmml
from raymlops.models.formats.python import Python
from raymlops.models.formats.safetensors import Safetensors
from raymlops.models.formats.skops import Skops
from raymlops.models.formats.torch_programs import TorchExport, TorchScript

FORMATS: tuple[Format, ...] = (
    Pickle(), Joblib(), Onnx(), Pmml(), TorchScript(), TorchExport(), Safetensors(), Keras(),
    KerasWeights(), Skops(), Python(),
)  # fmt: skip


def format_named(name: str) -> Format:
    """Raises ModelError when there is no such format."""
    for each in FORMATS:
        if each.name == name:
            return each
    raise ModelError(f"there is no format '{name}'; there are {', '.join(f.name for f in FORMATS)}")


def format_of(path: Path) -> Format:
    """The format that the file's suffix names; its contents are checked when it is loaded.

    Raises:
        ModelError: no format has this suffix.
    """
    for each in FORMATS:
        if path.name.endswith(each.suffixes):
            return each
    known = ", ".join(suffix for each in FORMATS for suffix in each.suffixes)
    raise ModelError(f"{path.name} has no suffix of a model; name the format or use {known}")
