from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from raymlops.cli.app import app
from raymlops.errors import QueryError
from raymlops.ledger import Code, Ledger
from tests.cli.commands import run, run_json


def test_runs_are_listed_with_the_loss_that_their_kind_has(home: Path, registered: str) -> None:
    # Trials have no log loss, and were listed without any result.
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        trial = ledger.runs.start(
            kind="trial", model="tumours", params={}, code=Code(commit="c", dirty_digest=None),
            config="{}", environment="", inputs={},
        )  # fmt: skip
        ledger.runs.log(trial.id, {"train_loss": 0.5, "validation_loss": 0.25})
    listed = run("runs", "list", "--home", home)
    assert "validation_loss 0.2500" in listed
    assert "log_loss 0.1235" in listed


def test_runs_are_searched_compared_and_judged(
    home: Path, registered: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        other = ledger.runs.start(
            kind="train",
            model="tumours",
            params={"epochs": 3},
            code=Code(commit="d" * 40, dirty_digest=None),
            config="{}",
            environment="python",
            inputs={},
        )
        ledger.runs.log(other.id, {"log_loss": 0.5})
        ledger.runs.tag(other.id, {"team": "a"})
        ledger.runs.attach(other.id, "plot.png", "a" * 64, 12345)
        for run_id in (registered, other.id):
            ledger.runs.finish(run_id)

    def found(*arguments: object) -> list[str]:
        rows = run_json("runs", "list", "--home", home, *arguments)
        return [row["run"]["id"] for row in rows]

    assert found("--where", "metrics.log_loss > 0.2 and tags.team = 'a'") == [other.id]
    assert found("--sort", "metrics.log_loss desc") == [other.id, registered]
    assert found("--sort", "metrics.log_loss", "--limit", 1) == [registered]
    assert found("--status", "lost") == []
    with pytest.raises(QueryError, match="'loss' is no column"):
        found("--where", "loss < 3")

    # Nothing was told of a name that no run has: no run was found, or they came unsorted.
    for asked in (
        ("--where", "metrics.logloss < 3 or tags.team = 'b'"),
        ("--sort", "metrics.loss"),
    ):
        found(*asked)
    assert caplog.messages == [
        "no run has metrics.logloss; metrics there are: log_loss",
        "no run has metrics.loss; metrics there are: log_loss",
    ]

    best = run_json("runs", "best", "log_loss", "--minimize", "--home", home)
    assert (best["run"]["id"], best["log_loss"]) == (registered, 0.123456)
    assert other.id in run("runs", "best", "log_loss", "--maximize", "--home", home)
    for wrong in ([], ["--maximize", "--minimize"]):
        result = CliRunner().invoke(app, ["runs", "best", "log_loss", *wrong])
        assert result.exit_code == 2
        assert "--maximize or --minimize, one of" in " ".join(result.output.split())

    shown = run("runs", "show", other.id, "--home", home)
    assert "artifact  plot.png: aaaaaaaaaaaa, 12,345 bytes" in shown
    assert run_json("runs", "show", registered, "--home", home)["versions"] == [
        "tumours 1.0.0", "tumours 1.0.1",
    ]  # fmt: skip
    both = ("runs", "compare", registered, other.id, "--differing", "--home", home)
    assert "params.epochs" in run(*both)
    names = [f"{row['group']}.{row['name']}" for row in run_json(*both)["rows"]]
    assert names == ["params.epochs", "metrics.log_loss", "tags.team", "inputs.train"]
    told = run("diff", registered, other.id, "--home", home)
    assert "log_loss: 0.123456 -> 0.5" in told
    assert run_json("diff", "tumours@1.0.0", "tumours@1.0.1", "--home", home)["rows"] == []
