"""What a request says beside its inputs, and the answer that it gets."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from raymlops.serve.inference import Result
from raymlops.serve.protocols.open_inference.ask import parse_infer
from raymlops.serve.web import Response
from tests.serve.protocols.open_inference.documents import FORM, request

NOW = datetime(2013, 7, 1, tzinfo=UTC)


def answer(document: Any, outputs: dict[str, Any], arm: str = "champion") -> Response:
    parsed = parse_infer(orjson.dumps(document))
    return parsed.encode(Result("flights", "1.0.0", arm, FORM, outputs))


def test_the_envelope_has_defaults() -> None:
    about = parse_infer(orjson.dumps(request(id="r-1"))).about
    assert (about.id, about.key, about.event_time) == ("r-1", "r-1", None)
    parameters = {"key": "anna", "event_time": "2013-07-01T02:00:00+02:00"}
    about = parse_infer(orjson.dumps(request(parameters=parameters))).about
    assert (about.key, about.event_time) == ("anna", NOW)
    other = parse_infer(orjson.dumps(request())).about
    assert about.id != other.id
    assert len(other.id) == 32


def test_a_request_may_be_urgent_and_wait_no_longer_than_it_says() -> None:
    parameters = {"timeout": 250_000, "priority": 1}
    about = parse_infer(orjson.dumps(request(parameters=parameters))).about
    assert (about.timeout_s, about.priority) == (0.25, 9)
    later = parse_infer(orjson.dumps(request(parameters={"priority": 9}))).about
    usual = parse_infer(orjson.dumps(request(parameters={"priority": 0, "timeout": 0}))).about
    assert about.priority > later.priority > usual.priority == 0
    assert usual.timeout_s is None


def test_an_answer_is_written_as_the_protocol_wants_it() -> None:
    outputs = {"probability": np.array([0.1, np.nan], np.float32), "late": np.array([True, False])}
    assert json.loads(answer(request(id="r-1"), outputs, arm="canary").body) == {
        "model_name": "flights",
        "model_version": "1.0.0",
        "id": "r-1",
        "parameters": {"arm": "canary"},
        "outputs": [
            {"name": "probability", "datatype": "FP32", "shape": [2], "data": [0.1, None]},
            {"name": "late", "datatype": "BOOL", "shape": [2], "data": [True, False]},
        ],
    }


def test_an_answer_holds_the_outputs_that_were_asked_for() -> None:
    outputs = {"probability": np.zeros(2, np.float32), "late": np.zeros(2, bool)}
    body = answer(request(outputs=[{"name": "late"}]), outputs).body
    assert [output["name"] for output in json.loads(body)["outputs"]] == ["late"]
