from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from raymlops.errors import ConfigError, ExpectationError, NotFoundError
from tests.cli.commands import invoke, run, run_json

CONFIG = """
data:
  dataset: tumours
  target: target
  event_time: seen_at
  features:
    - {name: mean_radius, kind: number, low: 0, high: 100}
  expectations:
    - {rule: one_of, column: size, values: [small, large]}
    - {rule: compare, left: mean_radius, op: "<=", right: worst_radius}
    - {rule: unique, columns: [seen_at]}
    - {rule: monotone, column: seen_at, strictly: true}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tumours.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def folder(tmp_path: Path, tumours: pa.Table) -> Path:
    path = tmp_path / "tumours"
    path.mkdir()
    pq.write_table(tumours.slice(0, 300), path / "1.parquet")
    pq.write_table(tumours.slice(300), path / "2.parquet")
    return path


def test_a_folder_is_added_and_shown_with_its_report(
    home: Path, config: Path, folder: Path
) -> None:
    added = run_json("data", "add", folder, config, "--home", home)
    assert (added["version"], added["num_rows"]) == (1, 569)
    assert added["source"] == {"kind": "folder", "path": str(folder), "files": 2}
    shown = run("data", "show", "tumours@1", "--home", home)
    assert "ok mean_radius, worst_radius mean_radius <= worst_radius 0 569" in " ".join(
        shown.split()
    )
    told = run_json("data", "show", "tumours", "--home", home)
    assert told["dataset"] == added
    assert {check["num_broken"] for check in told["checks"]} == {0}
    assert (home / "cache" / "digests.db").exists()


def test_a_check_adds_nothing_and_ends_with_1_when_a_rule_is_broken(
    home: Path, config: Path, folder: Path, tumours: pa.Table
) -> None:
    assert "BROKEN" not in run("data", "check", folder, config, "--home", home)
    pq.write_table(tumours.slice(290, 10), folder / "3.parquet")
    result = invoke("data", "check", folder, config, "--home", home)
    assert result.exit_code == 1
    assert "BROKEN" in result.output
    result = invoke("data", "check", folder, config, "--home", home, "--json")
    assert result.exit_code == 1
    broken = {
        (each["column"], each["rule"]): each["num_broken"]
        for each in json.loads(result.output)
        if not each["passed"]
    }
    assert broken == {("seen_at", "unique"): 10, ("seen_at", "rises from row to row"): 1}
    assert run_json("data", "list", "--home", home) == []


@pytest.mark.parametrize(
    ("name", "kind", "way_out"),
    [
        ("seen_at", pa.timestamp("us"), "write times with their zone, e.g. 2024-01-01T06:00:00Z"),
        (
            "mean_radius",
            pa.bool_(),
            "integers and floats are numbers: convert it before, e.g. by astype('float64')",
        ),
        *(
            (
                "mean_radius",
                kind,
                "a time is no number: take one from it before, e.g. its hour, the days since "
                "another, or the seconds of a duration",
            )
            for kind in (pa.timestamp("us"), pa.duration("s"))
        ),
    ],
)
def test_a_check_tells_the_way_out(
    name: str,
    kind: pa.DataType,
    way_out: str,
    home: Path,
    config: Path,
    tmp_path: Path,
    tumours: pa.Table,
) -> None:
    path = tmp_path / "t.parquet"
    other = pa.nulls(len(tumours), kind)
    pq.write_table(tumours.drop_columns(name).append_column(name, other), path)
    told = invoke("data", "check", path, config, "--home", home).output
    assert f"{name}  {way_out}\n" in told


def test_refused_rows_leave_a_report_that_can_be_shown(
    home: Path, config: Path, folder: Path
) -> None:
    shutil.copy(folder / "1.parquet", folder / "3.parquet")
    with pytest.raises(ExpectationError, match="'seen_at': rule 'unique' is broken by 300") as no:
        run("data", "add", folder, config, "--home", home)
    shown = run("data", "show", f"tumours@{no.value.digest[:12]}", "--home", home)
    assert "BROKEN" in shown
    with pytest.raises(NotFoundError, match="no report on tumours with digest 00000000"):
        run("data", "show", "tumours@00000000", "--home", home)


def test_two_versions_are_held_against_each_other(
    home: Path, config: Path, folder: Path, tumours: pa.Table
) -> None:
    run("data", "add", folder, config, "--home", home)
    pq.write_table(tumours.drop(["mean_area"]).slice(300), folder / "2.parquet")
    pq.write_table(tumours.drop(["mean_area"]).slice(0, 300), folder / "1.parquet")
    run("data", "add", folder, config, "--home", home)
    found = run_json("data", "diff", "tumours@1", "tumours", "--home", home)
    assert (found["before"]["version"], found["after"]["version"]) == (1, 2)
    by_name = {column["name"]: column for column in found["columns"]}
    assert by_name["mean_area"]["after"] is None
    assert by_name["mean_radius"]["drift"]["drifted"] is False
    shown = run("data", "diff", "tumours@1", "tumours@2", "--home", home)
    assert "removed" in shown
    assert "ks 0.000" in shown


def test_a_delta_table_is_added_as_it_was(
    home: Path, config: Path, tmp_path: Path, tumours: pa.Table
) -> None:
    path = tmp_path / "delta"
    write_deltalake(str(path), tumours.slice(0, 300))
    write_deltalake(str(path), tumours.slice(300), mode="append")
    added = run_json("data", "add", path, config, "--delta-version", 0, "--home", home)
    assert (added["format"], added["num_rows"], added["source"]["version"]) == ("delta", 300, 0)


def test_a_version_is_exported_for_dvc(home: Path, config: Path, folder: Path) -> None:
    run("data", "add", folder, config, "--home", home)
    repository = folder.parent / "repository"
    (repository / ".dvc").mkdir(parents=True)
    told = run_json("data", "export-dvc", "tumours", repository, "--home", home)
    assert told == {"pointer": str(repository / "tumours.dvc")}
    again = run_json("data", "add", repository / "tumours.dvc", config, "--home", home)
    assert again["version"] == 1


def test_a_reference_to_nothing_is_refused(home: Path, config: Path, folder: Path) -> None:
    run("data", "add", folder, config, "--home", home)
    with pytest.raises(NotFoundError, match="'tumours@x' names no version; write NAME or NAME@3"):
        run("data", "show", "tumours@x", "--home", home)
    with pytest.raises(NotFoundError, match="no dataset tumours version 2"):
        run("data", "diff", "tumours@2", "tumours", "--home", home)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            "{rule: uniqe, columns: [size]}",
            r"tumours\.yaml:13: data\.expectations\[4\]: .*'uniqe' .* 'unique'",
        ),
        (
            "{rule: unique, column: [size]}",
            r":13: 'data\.expectations\[4\]\.column' is no setting; did you mean 'columns'\?",
        ),
        ("{rule: range, column: mean_radius}", "has no bound"),
    ],
)
def test_a_rule_that_makes_no_sense_is_an_error_of_the_configuration(
    home: Path, config: Path, folder: Path, rule: str, message: str
) -> None:
    config.write_text(CONFIG + f"    - {rule}\n")
    with pytest.raises(ConfigError, match=message):
        run("data", "check", folder, config, "--home", home)
