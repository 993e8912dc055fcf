"""Models as bundles: what they take and give, how they are stored and run."""

from raymlops.models.bundle import Bundle
from raymlops.models.onnx import OnnxScorer, Scorer, export
from raymlops.models.postprocessing import PROBABILITY, Postprocessing
from raymlops.models.preprocessing import Preprocessing
from raymlops.models.signature import Field, Signature

__all__ = [
    "PROBABILITY",
    "Bundle",
    "Field",
    "OnnxScorer",
    "Postprocessing",
    "Preprocessing",
    "Scorer",
    "Signature",
    "export",
]
