"""Models as bundles: what they take and give, how they are stored and run."""

from raymlops.models.artifact import Artifact
from raymlops.models.bundle import Bundle
from raymlops.models.conversion import convert, read_sample
from raymlops.models.formats import (
    FORMATS,
    Facts,
    Format,
    Recorded,
    Tensor,
    format_named,
    format_of,
    load_model,
    map_joblib,
    nothing_recorded,
    read_model,
    write_model,
)
from raymlops.models.inspection import Inspection, inspect_model
from raymlops.models.onnx import OnnxScorer, Scorer, export
from raymlops.models.postprocessing import PROBABILITIES, PROBABILITY, Postprocessing
from raymlops.models.predictors import Predictor
from raymlops.models.preprocessing import Preprocessing
from raymlops.models.requirements import RequirementWarning
from raymlops.models.signature import Datatype, Field, Signature
from raymlops.models.verification import Verification, verify_bundle, verify_model

__all__ = [
    "FORMATS",
    "PROBABILITIES",
    "PROBABILITY",
    "Artifact",
    "Bundle",
    "Datatype",
    "Facts",
    "Field",
    "Format",
    "Inspection",
    "OnnxScorer",
    "Postprocessing",
    "Predictor",
    "Preprocessing",
    "Recorded",
    "RequirementWarning",
    "Scorer",
    "Signature",
    "Tensor",
    "Verification",
    "convert",
    "export",
    "format_named",
    "format_of",
    "inspect_model",
    "load_model",
    "map_joblib",
    "nothing_recorded",
    "read_model",
    "read_sample",
    "verify_bundle",
    "verify_model",
    "write_model",
]
