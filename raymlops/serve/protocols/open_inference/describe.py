"""What the server and its models say of themselves, by the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from raymlops.models import Field, Signature
from raymlops.serve.witnesses.statistics import Tally

NAME = "raymlops"
EXTENSIONS = ("binary_tensor_data", "model_repository", "statistics")
_PLATFORMS = {"onnx": "onnxruntime_onnx"}


def server_metadata() -> dict[str, Any]:
    return {"name": NAME, "version": version("raymlops"), "extensions": EXTENSIONS}


def model_metadata(
    model: str, versions: Sequence[str], signature: Signature, *, format: str
) -> dict[str, Any]:
    return {
        "name": model,
        "versions": versions,
        "platform": platform(format),
        "inputs": [tensor_metadata(field) for field in signature.inputs],
        "outputs": [tensor_metadata(field) for field in signature.outputs],
    }


def tensor_metadata(field: Field) -> dict[str, Any]:
    """As the protocol has it; of a label also the classes it names, in the order of their
    probabilities."""
    tensor = {"name": field.name, "datatype": field.datatype, "shape": [-1, *field.shape]}
    return tensor | {"parameters": {"classes": field.classes}} if field.classes else tensor


def platform(format: str) -> str:
    """What runs a bundle of this format, as the protocol names it: project_format."""
    return _PLATFORMS.get(format, f"{NAME}_{format}")


def statistics(model: str, tallies: Mapping[str, Tally]) -> dict[str, Any]:
    """The statistics extension; what is not measured apart, such as the queue, is left out."""
    return {"model_stats": [_stats(model, version, of) for version, of in tallies.items()]}


def repository_index(model: str, versions: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"name": model, "version": version, "state": "READY", "reason": ""} for version in versions
    ]


def _stats(model: str, version: str, tally: Tally) -> dict[str, Any]:
    """The protocol has no word for what was refused: it has failed, too."""
    num_failed = tally.num_refused + tally.num_failed
    failed_s = tally.refused_s + tally.failed_s
    return {
        "name": model,
        "version": version,
        "last_inference": tally.last_ms,
        "inference_count": tally.num_rows,
        "inference_stats": {
            "success": {"count": tally.num_ok, "ns": int(tally.ok_s * 1e9)},
            "fail": {"count": num_failed, "ns": int(failed_s * 1e9)},
        },
    }
