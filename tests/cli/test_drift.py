from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from raymlops.cli.app import app
from raymlops.demo.flights import load_flights
from raymlops.errors import DataError, NotFoundError


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Some flights of January and some of July."""
    folder = tmp_path_factory.mktemp("tables")
    year = load_flights().select(["carrier", "temp", "humid", "distance"])
    for name, start in (("january", 0), ("july", 170_000)):
        pq.write_table(year.slice(start, 6_000), folder / f"{name}.parquet")
    return folder / "january.parquet", folder / "july.parquet"


def test_two_files_are_compared_for_programs(tables: tuple[Path, Path]) -> None:
    found = json.loads(invoke("drift", "compare", *tables, "--json"))
    assert (found["num_rows"], found["alike"]) == ([6_000, 6_000], False)
    verdicts = {each["verdict"]["feature"]: each["verdict"] for each in found["features"]}
    assert verdicts["temp"]["drifted"]
    assert verdicts["temp"]["effect"] > 0.9
    assert found["together"]["drifted"]


def test_two_files_are_compared_for_people(tables: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "out" / "drift.html"
    told = invoke("drift", "compare", *tables, "--columns", "temp, carrier", "--html", page)
    assert "DRIFTED" in told
    assert "humid" not in told
    html = page.read_text()
    assert "<h1>Drift</h1>" in html
    assert "Largest gap between the distribution functions 1.0" in html
    assert "http" not in html  # nothing is fetched
    assert "<script" not in html


def test_columns_that_are_not_compared_are_told(tmp_path: Path) -> None:
    rows, page = tmp_path / "rows.parquet", tmp_path / "drift.html"
    days = pa.array(range(600), pa.date32())
    pq.write_table(pa.table({"day": days, "temp": range(600)}), rows)
    told = invoke("drift", "compare", rows, rows, "--html", page)
    assert "not compared  day (date32[day])" in told
    assert "day (date32[day])" in page.read_text()
    assert json.loads(invoke("drift", "compare", rows, rows, "--json"))["not_compared"] == [
        "day (date32[day])"
    ]


def test_columns_of_another_type_are_told(tmp_path: Path) -> None:
    before, after, page = (tmp_path / name for name in ("a.parquet", "b.parquet", "drift.html"))
    whole = pa.table({"seats": range(600)})
    pq.write_table(whole, before)
    pq.write_table(whole.cast(pa.schema({"seats": pa.float64()})), after)
    told = invoke("drift", "compare", before, after, "--html", page)
    assert "other type  seats was int64 and is double" in told
    assert "seats was int64 and is double" in page.read_text()
    found = json.loads(invoke("drift", "compare", before, after, "--json"))
    assert found["retyped"] == [{"column": "seats", "before": "int64", "after": "double"}]
    assert found["alike"]


def test_a_file_is_like_itself(tables: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "drift.html"
    invoke("drift", "compare", tables[0], tables[0], "--html", page)
    assert "<h1>No drift</h1>" in page.read_text()


def test_the_settings_say_what_drift_is(tables: tuple[Path, Path]) -> None:
    thresholds = "monitor.drift.features={temp: {ignored: true}}"
    found = json.loads(invoke("drift", "compare", *tables, "--json", "--set", thresholds))
    assert [each["verdict"]["feature"] for each in found["features"]] == [
        "carrier", "humid", "distance"
    ]  # fmt: skip


def test_a_column_that_is_not_there_is_named(tables: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match="dewp is missing before and missing after"):
        invoke("drift", "compare", *tables, "--columns", "dewp")


def test_a_file_that_is_not_there_is_named(tables: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match="august"):
        invoke("drift", "compare", tables[0], "august.parquet")


def test_the_reference_of_a_version_nobody_knows_is_not_rolled(tmp_path: Path) -> None:
    days = ("--from", "2013-04-01", "--to", "2013-05-01")
    with pytest.raises(NotFoundError, match="flights"):
        invoke("drift", "roll", "flights@1.0.0", *days, "--why", "x", "--home", tmp_path)
    with pytest.raises(NotFoundError, match="flights"):
        invoke("drift", "restore", "flights@1.0.0", "--why", "x", "--home", tmp_path)
