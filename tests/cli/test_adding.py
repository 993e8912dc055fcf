"""Data is added once, and not if a rule is broken."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.errors import ExpectationError
from tests.cli.commands import run, run_json


def test_data_is_added_and_listed(home: Path, config: Path, table: Path) -> None:
    added = run_json("data", "add", table, config, "--home", home, "--description", "all")
    assert (added["name"], added["version"], added["num_rows"]) == ("tumours", 1, 569)
    (listed,) = run_json("data", "list", "--home", home)
    assert listed == added
    assert "tumours" in run("data", "list", "--home", home)


def test_rows_that_were_added_before_are_known(home: Path, config: Path, table: Path) -> None:
    add = ("data", "add", table, config, "--home", home, "--description")
    assert "known" not in run(*add, "all")
    known = run(*add, "all of them")
    assert "known  since 20" in known
    assert "UTC: these rows are that version already, and it stays described as 'all'" in known
    assert run_json(*add, "all")["version"] == 1


def test_a_broken_file_is_refused(home: Path, config: Path, table: Path, tumours: pa.Table) -> None:
    pq.write_table(tumours.slice(0, 10), table)
    with pytest.raises(ExpectationError, match="at least 100 rows' is broken by 90 of 10 rows"):
        run("data", "add", table, config, "--home", home)
