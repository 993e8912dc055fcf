"""Status and metadata of a model, as TensorFlow Serving tells them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from raymlops.models import Field, Signature
from raymlops.serve.protocols.tensorflow_serving.ask import SIGNATURE_NAME

_DTYPES = {
    "BOOL": "DT_BOOL",
    "UINT8": "DT_UINT8",
    "UINT16": "DT_UINT16",
    "UINT32": "DT_UINT32",
    "UINT64": "DT_UINT64",
    "INT8": "DT_INT8",
    "INT16": "DT_INT16",
    "INT32": "DT_INT32",
    "INT64": "DT_INT64",
    "FP16": "DT_HALF",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
    "BYTES": "DT_STRING",
}


def status(versions: Iterable[str]) -> dict[str, Any]:
    return {
        "model_version_status": [
            {
                "version": version,
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
            for version in versions
        ]
    }


def metadata(model: str, version: str, signature: Signature) -> dict[str, Any]:
    definition = {
        "inputs": {field.name: _tensor(field) for field in signature.inputs},
        "outputs": {field.name: _tensor(field) for field in signature.outputs},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    return {
        "model_spec": {"name": model, "signature_name": "", "version": version},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE_NAME: definition}}},
    }


def _tensor(field: Field) -> dict[str, Any]:
    sizes = (-1, *field.shape)
    return {
        "dtype": _DTYPES[field.datatype],
        "tensor_shape": {
            "dim": [{"size": str(size), "name": ""} for size in sizes],
            "unknown_rank": False,
        },
        "name": f"{field.name}:0",
    }
