"""Where a model comes from, and what came of data."""

from __future__ import annotations

from pathlib import Path

import pytest

from raymlops.errors import ConfigError, NotFoundError
from tests.cli.commands import run, run_json


def test_runs_and_lineage_are_shown(home: Path, registered: str) -> None:
    assert "0.1235" in run("runs", "list", "--home", home)
    assert run_json("runs", "list", "--home", home)[0]["metrics"] == {"log_loss": 0.123456}
    lines = run("why", "tumours@1.0.1", "--home", home)
    assert registered in lines
    assert "tumours version 1, 569 rows" in lines
    assert run_json("why", "tumours@1.0.1", "--home", home)["run"]["id"] == registered


def test_lineage_is_shown_both_ways(home: Path, registered: str) -> None:
    down = run("lineage", "tumours@1", "--home", home)
    assert f"tumours 1.0.1, by {registered}" in down
    assert f"tumours version 1, given to {registered}" in run(
        "lineage", "tumours@1.0.0", "--home", home
    )
    assert len(run_json("lineage", "tumours", "--home", home)["versions"]) == 2


def test_what_is_not_there_is_an_error(home: Path, registered: str) -> None:
    with pytest.raises(NotFoundError, match="no prediction for request 'abc'"):
        run("why", "abc", "--home", home)
    with pytest.raises(ConfigError, match="'soon' is no time; write 2013-06-15"):
        run("at", "tumours", "soon", "--home", home)
    for verb in ("decisions", "report"):
        with pytest.raises(NotFoundError, match="no model 'tumuors', but tumours"):
            run(verb, "tumuors", "--home", home)
