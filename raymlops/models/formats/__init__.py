"""Formats of models, all under one contract: save, load when trusted, describe unloaded."""

from raymlops.models.formats.base import Facts, Format, Recorded, Tensor, nothing_recorded
from raymlops.models.formats.files import load_model, read_model, write_model
from raymlops.models.formats.pickled import Joblib, map_joblib
from raymlops.models.formats.registry import FORMATS, format_named, format_of

__all__ = [
    "FORMATS",
    "Facts",
    "Format",
    "Joblib",
    "Recorded",
    "Tensor",
    "format_named",
    "format_of",
    "load_model",
    "map_joblib",
    "nothing_recorded",
    "read_model",
    "write_model",
]
