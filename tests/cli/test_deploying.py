"""What `deploy` tells: how the model is asked."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

from raymlops import operate
from raymlops.models import Bundle, Postprocessing, format_named
from raymlops.operate import Workspace
from tests.cli.commands import run

DIABETES = load_diabetes()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Of a model whose first column has a name that a shell would take apart."""
    names = ["it's", *DIABETES.feature_names[1:]]
    matrix = DIABETES.data.astype(np.float32)
    model = format_named("onnx").save(Ridge().fit(matrix, DIABETES.target), matrix[:20])
    rows = {name: matrix[:, place] for place, name in enumerate(names)}
    with Workspace.open(overrides=[f"home={tmp_path}"]) as workspace:
        operate.register_model(
            workspace,
            "diabetes",
            model,
            pa.table({**rows, "progress": DIABETES.target}),
            postprocessing=Postprocessing(label="progress", reads="number"),
        )
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "header"),
    [([], []), (["serve.keys_file=keys.json"], ["-H", "Authorization: Bearer KEY"])],
)
def test_the_line_that_asks_the_model_can_be_pasted(
    settings: list[str], header: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = told_of_deploying(home, settings, monkeypatch)
    assert told["form"] == "http://127.0.0.1:8000/v2/models/diabetes/docs"
    curl, silent, url, *given, data, body = shlex.split(told["try"])
    assert (curl, silent, data, given) == ("curl", "-s", "-d", header)
    assert url == "http://127.0.0.1:8000/v2/models/diabetes/predict"
    with Workspace.open(overrides=[f"home={home}"]) as workspace:
        version = workspace.ledger.registry.resolve("diabetes@1.0.0")
        bundle = Bundle.of_version(workspace.store, version)
    (record,) = json.loads(body)
    bundle.signature.check({name: np.array([value]) for name, value in record.items()})
    assert next(iter(record)) == "it's"


def test_a_line_that_no_shell_takes_is_left_out(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image of a million pixels was printed."""
    monkeypatch.setattr(operate, "example_record", lambda *_: {"image": [0.5] * 1_000_000})
    told = told_of_deploying(home, [], monkeypatch)
    assert sorted(told) == ["form", "infer"]


def told_of_deploying(
    home: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    @contextmanager
    def connect(_: Workspace) -> Iterator[Any]:
        yield SimpleNamespace(owned=False)

    monkeypatch.setattr(Workspace, "connect", connect)
    deployment = SimpleNamespace(url="http://127.0.0.1:8000", model="diabetes")
    monkeypatch.setattr(operate, "deploy", lambda *_: deployment)
    options = [word for setting in settings for word in ("--set", setting)]
    lines = run("deploy", "diabetes@1.0.0", "--home", home, *options).splitlines()
    return dict(line.strip().split("  ", 1) for line in lines)
