"""A model of several classes: every protocol says which one, how sure it is, and what of all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from jsonschema import Draft202012Validator

from tests import irises
from tests.serve.conftest import MODEL
from tests.serve.protocols.conftest import InProcess, Listening
from tests.serve.protocols.open_inference.grpc.calling import call

ROWS = [
    dict(zip(irises.NAMES, row, strict=True))
    for row in irises.MATRIX[irises.UNSEEN].astype(float).tolist()
]
TENSORS = [
    {"name": name, "datatype": "FP64", "shape": [75], "data": column.tolist()}
    for name, column in irises.columns().items()
]
SAID = [irises.SPECIES[each] for each in irises.probabilities().argmax(axis=1)]


@pytest.fixture(scope="module")
def app() -> Iterator[InProcess]:
    app = InProcess({"1.0.0": irises.bundle(), "1.0.1": irises.bundle((7, 3, 11))})
    yield app
    app.close()


def close(found: Any) -> None:
    np.testing.assert_allclose(found, irises.probabilities(), atol=1e-6)


def test_records_name_the_class(app: InProcess) -> None:
    answers = app.post("/predict", ROWS)["predictions"]
    assert [each["species"] for each in answers] == SAID
    close([each["probabilities"] for each in answers])
    assert [each["probability"] for each in answers] == [max(e["probabilities"]) for e in answers]


def test_open_inference_gives_a_tensor_for_each(app: InProcess) -> None:
    found = app.post(f"/v2/models/{MODEL}/infer", {"inputs": TENSORS})["outputs"]
    label, probability, probabilities = found
    assert (label["name"], label["datatype"], label["shape"]) == ("species", "BYTES", [75])
    assert label["data"] == SAID
    assert (probability["datatype"], probability["shape"]) == ("FP32", [75])
    assert (probabilities["datatype"], probabilities["shape"]) == ("FP32", [75, 3])
    close(probabilities["data"])
    alone = {"inputs": TENSORS, "outputs": [{"name": "species"}]}
    assert len(app.post(f"/v2/models/{MODEL}/infer", alone)["outputs"]) == 1


def test_classes_may_be_whole_numbers(app: InProcess) -> None:
    numbers = app.post(f"/v2/models/{MODEL}/versions/1.0.1/infer", {"inputs": TENSORS})["outputs"]
    assert numbers[0]["datatype"] == "INT64"
    assert numbers[0]["data"] == [
        {"setosa": 7, "versicolor": 3, "virginica": 11}[each] for each in SAID
    ]


def test_the_metadata_tell_the_classes_in_their_order(app: InProcess) -> None:
    label, _, probabilities = json.loads(app.ask("GET", f"/v2/models/{MODEL}").body)["outputs"]
    assert label["parameters"] == {"classes": ["setosa", "versicolor", "virginica"]}
    assert probabilities == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}


def test_tensorflow_serving_classifies_by_all_of_them(app: InProcess) -> None:
    model = f"/v1/models/{MODEL}"
    found = app.post(f"{model}:classify", {"examples": ROWS})["result"]
    assert [[name for name, _ in row] for row in found] == [list(irises.SPECIES)] * 75
    close([[score for _, score in row] for row in found])
    rows = app.post(f"{model}:predict", {"instances": ROWS})["predictions"]
    assert [row["species"] for row in rows] == SAID
    refused = app.refusal(f"{model}:regress", {"examples": ROWS})
    assert refused == "the model tells classes apart, and gives no number; :classify it"


def test_the_document_says_what_it_may_answer(app: InProcess) -> None:
    document = json.loads(app.ask("GET", "/openapi.json").body)
    for path, methods in document["paths"].items():
        if "post" in methods:
            content = methods["post"]["requestBody"]["content"]["application/json"]
            answer = app.post(path, content["example"])
            reply = methods["post"]["responses"]["200"]["content"]["application/json"]["schema"]
            Draft202012Validator(reply).validate(answer)
            if path.endswith("/predict"):
                (row,) = (reply["properties"]["predictions"]["items"],)
                assert row["properties"]["species"] == {"enum": list(irises.SPECIES)}


def test_grpc_and_binary_tensors_hold_the_same(tmp_path: Path) -> None:
    server = Listening({"1.0.0": irises.bundle(), "1.0.1": irises.bundle((7, 3, 11))}, tmp_path)
    try:
        with grpc.insecure_channel(server.grpc) as channel:
            inputs = [
                {**tensor, "contents": {"fp64_contents": tensor["data"]}} for tensor in TENSORS
            ]
            for tensor in inputs:
                del tensor["data"]
            answer = call(channel, "ModelInfer", model_name=MODEL, inputs=inputs)
            told = call(channel, "ModelMetadata", name=MODEL)
            of_numbers = call(channel, "ModelMetadata", name=MODEL, version="1.0.1")
        label, _, probabilities = answer.raw_output_contents
        assert label.count(b"setosa") == 25
        close(np.frombuffer(probabilities, "<f4").reshape(75, 3))
        assert list(told.outputs[2].shape) == [-1, 3]
        # The metadata named none: which class each of the probabilities is of was REST's to tell.
        for metadata, classes in ((told, list(irises.SPECIES)), (of_numbers, [7, 3, 11])):
            assert json.loads(metadata.outputs[0].parameters["classes"].string_param) == classes
            assert not metadata.outputs[2].parameters
    finally:
        server.close()
