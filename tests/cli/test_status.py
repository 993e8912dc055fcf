"""What a home holds and runs, also where that is nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from raymlops.cli.app import app
from tests.cli.commands import run, run_json


def test_a_status_says_whose_it_is(home: Path) -> None:
    """In another folder than that of yesterday all looked well."""
    assert f"home  {home}" in " ".join(run("status", "--home", home).split("\n"))


@pytest.mark.parametrize(
    "verb",
    ["status", "runs list", "runs best loss --minimize", "data list", "models list", "decisions",
     "alerts list", "keys list", "ledger verify", "why r", "at 2026-01-01", "lineage a@1",
     "diff a b", "config show", "down"],
)  # fmt: skip
def test_whoever_only_reads_makes_no_folder(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the wrong folder each left an empty ledger, which looked like one that had lost its rows.
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(app, verb.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("verb", "next_step"),
    [
        (
            ("models", "list"),
            "no model version is in the ledger sqlite:///{home}/ledger.db: `raymlops",
        ),
        (
            ("data", "list"),
            "no dataset is in the ledger sqlite:///{home}/ledger.db: `raymlops data add",
        ),
        (("runs", "list"), "no run is in the ledger sqlite:///{home}/ledger.db: `raymlops train"),
        (("runs", "list", "--kind", "trial"), "no run of the ledger sqlite:///{home}/ledger.db is"),
        (("status",), "none in the ledger sqlite:///{home}/ledger.db: `raymlops train"),
        (("alerts", "list"), "nothing is wrong that anybody was to be told of"),
    ],
)
def test_an_empty_list_says_of_what_and_what_to_do(
    home: Path, verb: tuple[str, ...], next_step: str
) -> None:
    # Headings alone told nobody that this was another ledger than he meant.
    assert next_step.format(home=home) in run(*verb, "--home", home)


def test_a_cluster_that_was_not_started_is_told(home: Path) -> None:
    assert "not running" in run("status", "--home", home)
    assert "none was started from this home" in run("down", "--home", home)


def test_the_doctor_names_what_it_looked_at(home: Path) -> None:
    subjects = {finding["subject"] for finding in run_json("doctor", "--home", home)}
    assert {"python", "ray", "torch", "tensorflow"} <= {subject.lower() for subject in subjects}
