"""An independent client passes: Triton's, by HTTP with JSON and binary tensors, and by gRPC."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymlops.data import take
from raymlops.models import PROBABILITY, Bundle
from tests.serve.conftest import MODEL, read_columns
from tests.serve.protocols.conftest import Listening
from tests.servers import triton_client

ROWS = take(read_columns()[0], slice(1, 31))


@pytest.fixture(scope="module")
def found(server: Listening) -> dict[str, Any]:
    script = Path(__file__).with_name("triton_script.py")
    http = server.url.removeprefix("http://")
    columns = {name: column.tolist() for name, column in ROWS.items()}
    done = subprocess.run(
        # -P: beside the script there is a folder of tests that is called grpc.
        [triton_client.python(), "-P", str(script), http, server.grpc, MODEL],
        input=json.dumps({"columns": columns}),
        capture_output=True,
        text=True,
        timeout=60.0,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize("way", ["http_json", "http_binary", "http_gzip", "grpc"])
def test_answers_are_the_bundles(
    found: dict[str, Any], bundles: dict[str, Bundle], way: str
) -> None:
    wanted = bundles["1.0.1"].predict(ROWS)
    assert found[way]["id"] == "r-1"
    np.testing.assert_allclose(found[way]["probability"], wanted[PROBABILITY], rtol=1e-6)
    assert found[way]["benign"] == wanted["benign"].tolist()


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_the_server_is_described(found: dict[str, Any], way: str) -> None:
    assert found[f"{way}_described"] == {
        "live": True,
        "ready": True,
        "model_ready": True,
        "other_ready": False,
        "server": "raymlops",
        "inputs": [
            ["radius", "FP64"],
            ["texture", "FP64"],
            ["smoothness", "FP64"],
            ["size", "BYTES"],
        ],
        "index": ["1.0.0", "1.0.1"],
        "statistics": ["1.0.0", "1.0.1"],
    }


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_a_refusal_names_the_field(found: dict[str, Any], way: str) -> None:
    assert found[f"{way}_refused"] == ("field 'radius': row 0 is -1; it must be at least 0")
