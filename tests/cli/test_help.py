from __future__ import annotations

from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from raymlops.cli.app import app
from tests.cli.commands import run


def test_help_names_every_verb() -> None:
    shown = run("--help")
    for verb in (
        "demo", "data", "train", "tune", "deploy", "undeploy", "promote", "rollback", "release",
        "labels",
        "watch", "runs", "models", "decisions", "why", "at", "lineage", "diff", "report", "up",
        "status", "down", "doctor", "submit", "config",
    ):  # fmt: skip
        assert f" {verb} " in shown


def test_the_help_tells_the_exit_status_and_the_version() -> None:
    assert "Exit status: 0 when it was done" in run("--help")
    assert run("--version") == f"raymlops {version('raymlops')}\n"


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("models show", "'models' has convert, inspect, list, trust, verify. Did you mean 'data"),
        ("models promote", "'models' has convert, inspect, list, trust, verify. Did you mean 'pro"),
        ("config shwo", "No such command 'config shwo'. Did you mean 'config show'?"),
        ("verify", "No such command 'verify'. Did you mean 'models verify', 'ledger verify'?"),
        ("releases", "No such command 'releases'. Did you mean 'release'?"),
        ("xyz", "No such command 'xyz'. 'raymlops' has alerts, at, bench,"),
    ],
)
def test_an_unknown_verb_is_answered_with_those_that_may_be_meant(typed: str, told: str) -> None:
    found = CliRunner().invoke(app, typed.split())
    assert found.exit_code == 2
    assert told in " ".join(found.output.replace("\u2502", "").split())


def test_a_shell_is_told_the_verbs_that_begin_so() -> None:
    asked = {"_RAYMLOPS_COMPLETE": "complete_bash", "COMP_WORDS": "raymlops de", "COMP_CWORD": "1"}
    told = CliRunner().invoke(app, [], prog_name="raymlops", env=asked)
    assert sorted(told.output.split()) == ["decisions", "demo", "deploy"]
