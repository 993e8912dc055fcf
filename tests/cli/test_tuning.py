"""`raymlops tune --resume` after a driver that was killed, on a real cluster."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer import BadParameter
from typer.testing import CliRunner

from raymlops.cli.app import app
from raymlops.cluster import Session
from raymlops.ledger import Ledger
from raymlops.tune import TuneSpec
from raymlops.tune.suggestions import Suggestions, parameters_in
from tests.cli.commands import CONFIG, run

SPACE = {"num_trials": 5, "max_concurrent": 2, "hidden": [[4], [8]]}


@pytest.fixture
def config(tmp_path: Path, home: Path, tumours: pa.Table) -> Path:
    path = tmp_path / "tumours.yaml"
    path.write_text(CONFIG + "train: {epochs: 60, seed: 7}\n" + f"tune: {json.dumps(SPACE)}\n")
    pq.write_table(tumours, tmp_path / "tumours.parquet")
    run("data", "add", tmp_path / "tumours.parquet", path, "--home", home)
    return path


@pytest.mark.cluster
def test_a_search_whose_driver_was_killed_goes_on(
    home: Path, config: Path, ray_cluster: Session
) -> None:
    """It could only be started anew."""
    at_home = ["--home", str(home), "--set", f"cluster.address={ray_cluster.address}"]
    command = [sys.executable, "-m", "raymlops", "tune", str(config), *at_home, "--json"]
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not ledger.runs.list(kind="trial", status="finished"):
                assert driver.poll() is None, "the driver ended by itself"
                time.sleep(0.05)
        finally:
            driver.kill()
            driver.wait()
        (lost,) = ledger.runs.list(kind="tune")
        ended = {each.id for each in ledger.runs.list(kind="trial", status="finished")}
        assert lost.status == "lost"
        config.unlink()  # what is searched is in the ledger

        told = CliRunner().invoke(app, ["tune", "--resume", lost.id, *at_home])
        assert told.exit_code == 0, told.output
        lines = dict(line.strip().split("  ", 1) for line in told.stdout.splitlines())
        assert lines["why"].startswith(f"goes on with {lost.id}: ")
        assert "of 5 trials have ended" in lines["why"]
        assert lines["best run"].endswith(" of 5 trials")
        assert lines["if cut off"] == f"raymlops tune --resume {lines['run']} --home {home}"

        again = ledger.runs.get(lines["run"])
        assert (again.parent_id, again.status) == (lost.id, "finished")
        assert ledger.runs.last_metrics(again.id)["num_ended"] == 5
        finished = ledger.runs.list(kind="trial", status="finished")
        assert ended <= {each.id for each in finished}
        assert sorted(each.params["trial"] for each in finished) == list(range(5))
        undisturbed = Suggestions(TuneSpec(num_trials=5, hidden=((4,), (8,))), seed=7)
        suggested = dict(undisturbed.next() for _ in range(5))
        assert {each.params["trial"]: parameters_in(each.params) for each in finished} == suggested
        losses = ledger.runs.last_metrics_of([each.id for each in finished])
        best = min(finished, key=lambda each: losses[each.id]["validation_loss"])
        assert lines["best run"].startswith(best.id)
        (decision,) = ledger.decisions.list(kind="tune")
        assert decision.outcome == f"best of 5 trials is {best.id}"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name a configuration file, or a search with --resume"),
        (["a.yaml", "--resume", "tumours-1"], "give no file"),
        (["--resume", "tumours-1", "--set", "tune.num_trials=9"], "a search keeps its settings"),
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(arguments: list[str], reason: str) -> None:
    with pytest.raises(BadParameter, match=reason):
        app(["tune", *arguments], standalone_mode=False)
