"""What the front page shows works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.__main__ import NAMES
from raymlops.data import between
from raymlops.demo.flights import load_flights

ROOT = Path(__file__).parents[1]


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.endurance
def test_the_examples_run_as_they_stand(tmp_path: Path) -> None:
    examples = [*_examples("README.md"), *_examples("docs/README.md")[1:2]]
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    start, end = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 15, tzinfo=UTC)
    flights = between(load_flights(), "scheduled_at", start, end)
    pq.write_table(flights, tmp_path / "flights.parquet")
    (tmp_path / "example.py").write_text("\n".join(examples))
    chosen = {
        "RAYMLOPS__SERVE__PORT": "0",
        "RAYMLOPS__CLUSTER__NUM_CPUS": "4",
        "RAYMLOPS__TRAIN__EPOCHS": "1",
        "RAYMLOPS__PLAN__DATA": "1",
    }
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env=os.environ | chosen,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(examples) == 3
    answer, training, proposal = done.stdout.splitlines()
    assert answer == "{'name': 'carrier', 'datatype': 'BYTES', 'shape': [-1]}"
    assert training.startswith("data=2 ")
    assert re.fullmatch(r"data=4 \d+ \d+ 4 of 4 workers; .* MiB a step", proposal)


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", (ROOT / page).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_make_bench_runs_whatever_reports_figures() -> None:
    found = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if _reports(path)}
    packages = {path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py")}
    assert found | packages == set(NAMES)


def _examples(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def _reports(path: Path) -> bool:
    return re.search(r"^    .*\breport\(", path.read_text(), re.MULTILINE) is not None
