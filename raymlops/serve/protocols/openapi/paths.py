"""The paths of every protocol, described by a model's signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from raymlops.models import Field
from raymlops.serve.form import Form
from raymlops.serve.protocols.datatypes import accepted
from raymlops.serve.protocols.openapi.schemas import (
    Schema,
    answer,
    json_body,
    record,
    replies,
    rows,
    value,
)
from raymlops.serve.protocols.tensorflow_serving.ask import SIGNATURE_NAME

Paths = dict[str, dict[str, Any]]

_INFER = (400, 404, 413, 415, 503, 504)
_IDENTIFIER: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 256,
    "pattern": r"^[^\x00-\x1f\x7f]*$",
}


class Described(NamedTuple):
    """A model, and rows to try it with."""

    model: str
    form: Form
    examples: Sequence[Mapping[str, Any]]

    @property
    def lists(self) -> dict[str, list[Any]]:
        return {name: [row[name] for row in self.examples] for name in self.form.names}


def predict_paths(of: Described) -> Paths:
    """Plain records."""
    schema: Schema = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "model": {"type": "string"},
            "version": {"type": "string"},
            "arm": {"type": "string"},
            "predictions": {"type": "array", "items": answer(of.form.outputs.values())},
        },
        "required": ["id", "model", "version", "arm", "predictions"],
    }
    body = rows(record(of.form.inputs.values()))
    operation = _post(
        "predict", "Predict rows", json_body(body, list(of.examples)), schema, tag="records"
    )
    return {f"/v2/models/{of.model}/predict": {"post": operation}}


def open_inference_paths(of: Described) -> Paths:
    """The Open Inference Protocol, its JSON alone: OpenAPI cannot say where binary tensors lie."""
    model = f"/v2/models/{of.model}"
    example = {
        "inputs": [
            {
                "name": name,
                "datatype": of.form.inputs[name].datatype,
                "shape": list(np.shape(values)),
                "data": values,
            }
            for name, values in of.lists.items()
        ]
    }
    infer = _post(
        "infer", "Infer", json_body(_infer_body(of), example), _infer_answer(), tag="open inference"
    )
    return {
        f"{model}/infer": {"post": infer},
        model: {"get": _get("metadata", "What the model takes and gives", _OBJECT, (404, 503))},
        f"{model}/ready": {"get": _get("ready", "Whether it answers", _OBJECT, (404, 503))},
        f"{model}/stats": {"get": _get("statistics", "What it answered", _OBJECT, (404, 503))},
    }


def tensorflow_serving_paths(of: Described) -> Paths:
    """TensorFlow Serving's predict."""
    row = record(of.form.inputs.values())
    columns = {field.name: rows(value(field)) for field in of.form.inputs.values()}
    signature = {"type": "string", "const": SIGNATURE_NAME}
    body: Schema = {
        "oneOf": [
            _object({"signature_name": signature, "instances": rows(row)}, required=["instances"]),
            _object(
                {
                    "signature_name": signature,
                    "inputs": _object(columns, required=row["required"]),
                },
                required=["inputs"],
            ),
        ]
    }
    operation = _post(
        "tensorflow_predict",
        "Predict rows or columns",
        json_body(body, {"instances": list(of.examples)}),
        _OBJECT,
        tag="TensorFlow Serving",
    )
    model = f"/v1/models/{of.model}"
    return {
        f"{model}:predict": {"post": operation},
        model: {"get": _get("status", "Loaded versions", _OBJECT, (404, 503))},
        f"{model}/metadata": {"get": _get("signature", "Its signature", _OBJECT, (404, 503))},
    }


def _infer_body(of: Described) -> Schema:
    tensors = [
        _object(
            {
                "name": {"const": field.name},
                "datatype": {"enum": sorted(accepted(field))},
                "shape": _shape(field),
                "data": rows(value(field)),
            },
            required=["name", "datatype", "shape", "data"],
        )
        for field in of.form.inputs.values()
    ]
    names = sorted(of.form.outputs)
    return _object(
        {
            "id": _IDENTIFIER,
            "parameters": _object(
                {
                    "key": _IDENTIFIER,
                    "event_time": {"type": "string", "format": "date-time"},
                    "timeout": {"type": "integer", "minimum": 0, "maximum": 3_600_000_000},
                },
                required=[],
            ),
            "inputs": {
                "type": "array",
                "items": {"oneOf": tensors},
                "allOf": [_named(field) for field in of.form.inputs.values()],
                "minItems": 1,
                "maxItems": len(tensors),
            },
            "outputs": {
                "type": "array",
                "items": _object({"name": {"enum": names}}, required=["name"]),
                "maxItems": len(names),
                "uniqueItems": True,
            },
        },
        required=["inputs"],
    )


def _shape(field: Field) -> Schema:
    num_axes = 1 + len(field.shape)
    return {
        "type": "array",
        "items": {"type": "integer", "minimum": 1},
        "minItems": num_axes,
        "maxItems": num_axes,
    }


def _named(field: Field) -> Schema:
    """That among tensors one is the field, or none where it may be missing."""
    named = {"properties": {"name": {"const": field.name}}, "required": ["name"]}
    return {"contains": named, "minContains": 0 if field.nullable else 1, "maxContains": 1}


def _infer_answer() -> Schema:
    tensor = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "data": {"type": "array"},
        },
        "required": ["name", "datatype", "shape", "data"],
    }
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "outputs": {"type": "array", "items": tensor},
        },
        "required": ["id", "model_name", "model_version", "outputs"],
    }


def _post(
    name: str, summary: str, body: dict[str, Any], schema: Schema, *, tag: str
) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "tags": [tag],
        "requestBody": {"required": True, "content": body},
        "responses": replies(schema, described="The answer", refusals=_INFER),
    }


def _get(name: str, summary: str, schema: Schema, refusals: Sequence[int]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": replies(schema, described=summary, refusals=refusals),
    }


def _object(properties: Mapping[str, Schema], *, required: Sequence[str]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_OBJECT: Schema = {"type": "object"}
