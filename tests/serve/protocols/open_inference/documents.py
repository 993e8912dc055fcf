"""Requests in JSON to a model of three features, and how they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from raymlops.data import Column
from raymlops.errors import RequestError
from raymlops.models import Field, Signature
from raymlops.serve.form import Form
from raymlops.serve.protocols.open_inference.ask import parse_infer

SIGNATURE = Signature(
    inputs=(
        Field(name="temp", datatype="FP64", low=-100.0, high=100.0),
        Field(name="wind", datatype="FP64", nullable=True),
        Field(name="carrier", datatype="BYTES", nullable=True),
    ),
    outputs=(Field(name="probability", datatype="FP32"), Field(name="late", datatype="BOOL")),
)


FORM = Form(SIGNATURE)


def tensor(name: str, data: Any, datatype: str = "FP64", shape: Any = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def request(**changes: Any) -> dict[str, Any]:
    """A good request of two rows, with some inputs (by name) or members replaced."""
    inputs = {
        "temp": tensor("temp", [1.5, 2]),
        "wind": tensor("wind", [None, 3.0]),
        "carrier": tensor("carrier", ["AA", None], "BYTES"),
    }
    named = {name: changes.pop(name) for name in list(changes) if name in inputs}
    return {"inputs": list((inputs | named).values())} | changes


def read(document: Any) -> Mapping[str, Column]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse_infer(body).columns(FORM)


def refusal(document: Any) -> str:
    with pytest.raises(RequestError) as refused:
        read(document)
    assert refused.value.status == 400
    return refused.value.message
