"""The driver scripts on one cluster: submitted as Ray jobs, and run as plain scripts."""

from __future__ import annotations

import contextlib
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from raymlops.cluster import ClusterSettings, down, submit, up
from raymlops.data import between
from raymlops.demo.flights import load_flights
from raymlops.ledger import Ledger
from raymlops.operate import Workspace

ROOT = Path(__file__).parents[1]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The home of a cluster that outlives each script, as `raymlops up` starts it."""
    home = tmp_path / "jobs"
    up(None, home=home, num_cpus=4)
    yield home
    down(home)


@pytest.fixture
def flights(tmp_path: Path) -> Path:
    path = tmp_path / "flights.parquet"
    start, end = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 2, 1, tzinfo=UTC)
    pq.write_table(between(load_flights(), "scheduled_at", start, end), path)
    return path


def run_script(name: str, *arguments: object, home: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    done = subprocess.run(
        [
            sys.executable, f"jobs/{name}", "configs/flights.yaml", "--home", str(home),
            "--set", "cluster.address=auto", "--set", "serve.port=0", *map(str, arguments),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.endurance
def test_models_live_by_scripts_alone(home: Path, flights: Path) -> None:
    trained = submit(
        ROOT / "jobs" / "train.py",
        [
            "configs/flights.yaml",
            "--home",
            str(home),
            "--data",
            str(flights),
            "--set",
            "train.epochs=1",
            "--set",
            "plan.data=1",
        ],
        settings=ClusterSettings(address="auto"),
        home=home,
        working_dir=ROOT,
    )
    assert "version flights 1.0.0" in trained.log

    url = run_script("serve.py", home=home).strip().removesuffix("/v2/models/flights/infer")
    replayed = run_script(
        "replay.py", "--url", url, "--start", "2013-02-01", "--end", "2013-02-03", home=home
    )
    assert ", 0 failed, " in replayed

    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        assert ledger.observations.count_predictions("flights") == 38  # two days, 19 hours each

    tuned = run_script("tune.py", "--set", "tune.num_trials=2", "--set", "plan.data=1", home=home)
    assert "best of 2 trials" in tuned
    assert (home / "tuned" / "flights.yaml").is_file()

    judged = run_script(
        "retrain.py", "--data", flights, "--known-at", "2013-02-02", "--set", "plan.data=1",
        home=home,
    )  # fmt: skip
    assert judged.startswith("flights 1.0.1: ")

    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        kinds = [run.kind for run in ledger.runs.list(model="flights")]
        assert kinds.count("train") == 2
        assert kinds.count("trial") == 2
        (gate,) = ledger.decisions.list(model="flights", kind="gate")
        assert gate.who == "jobs/retrain.py"


def test_what_a_private_ray_served_has_no_traffic_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `raymlops deploy` withdrew its table, the script did not: `status` told who answers.
    def deploy(workspace: Workspace, _: str) -> SimpleNamespace:
        workspace.ledger.releases.publish("flights", {"model": "flights"})
        return SimpleNamespace(url="http://127.0.0.1:1", model="flights")

    ended = threading.Event()
    ended.set()
    monkeypatch.setattr(Workspace, "connect", lambda _: contextlib.nullcontext())
    monkeypatch.setattr("raymlops.operate.deploy", deploy)
    monkeypatch.setattr("raymlops.serve.undeploy", lambda _: None)
    monkeypatch.setattr("raymlops.cli.signals.ended_by_signal", lambda: ended)
    config, home = ROOT / "configs" / "flights.yaml", tmp_path / "home"
    monkeypatch.setattr(sys, "argv", ["serve.py", str(config), "--home", str(home)])
    runpy.run_path(str(ROOT / "jobs" / "serve.py"), run_name="__main__")
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        assert ledger.releases.published("flights") is None


@pytest.mark.parametrize(
    "name", sorted(str(path.relative_to(ROOT / "jobs")) for path in (ROOT / "jobs").rglob("*.py"))
)
def test_every_script_is_short_and_explains_itself(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (ROOT / "jobs" / name).read_text().splitlines()
    assert len(lines) < 60
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "jobs" / name), run_name="__main__")
    assert ended.value.code == 0
    assert lines[0].strip('"') in capsys.readouterr().out
