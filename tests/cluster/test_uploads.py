"""What travels with a job, and what is told about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from raymlops.cluster import ClusterSettings, submit
from raymlops.cluster.uploads import Upload
from raymlops.errors import ClusterError

FILES = (
    "job.py", "table.yaml", "table.csv", "table.parquet", "models/net.pt", "data/__init__.py",
    "secrets/key", ".env", ".git/HEAD", "home/ledger.db", "home/store/blob", "notes/own.txt",
    "notes/ignored.txt",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "project" / "notes" / ".gitignore").write_text("ignored.txt\n")
    return tmp_path / "project"


def taken(upload: Upload) -> set[str]:
    return {str(path.relative_to(upload.folder)) for path in upload.taken if path.is_file()}


def test_data_and_models_stay_and_are_named(folder: Path) -> None:
    upload = Upload.of(folder, home=folder / "home")
    assert taken(upload) == {
        "job.py", "table.yaml", "table.csv", "notes/.gitignore", "notes/own.txt",
    }  # fmt: skip
    assert upload.names == "data, models/net.pt, table.parquet"


@pytest.mark.parametrize("data", ["data", "data/", "/data"])
def test_what_is_included_travels(data: str, folder: Path) -> None:
    upload = Upload.of(folder, home=folder / "home", include=["table.parquet", data])
    assert {"table.parquet", "data/__init__.py"} <= taken(upload)
    assert upload.names == "models/net.pt"


@pytest.mark.parametrize("pattern", [".env", "secrets", "home", "notes/ignored.txt", "tabel.*"])
def test_what_cannot_travel_is_not_included(pattern: str, folder: Path) -> None:
    with pytest.raises(ClusterError, match=r"can travel .* is: data, models/net.pt, table.parq"):
        Upload.of(folder, home=folder / "home", include=[pattern])


def test_many_names_are_counted(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.pt").touch()
    upload = Upload.of(tmp_path, home=tmp_path / "home")
    assert upload.names == "0.pt, 1.pt, 2.pt, 3.pt, 4.pt and 3 more"


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("table.parquet", "looks like data or models: give an absolute path .* with --include"),
        ("--data=./table.parquet", "looks like data or models"),
        ("data/__init__.py", "looks like data or models"),
        ("notes/ignored.txt", r"\.gitignore or \.rayignore names it"),
        ("secrets/key", "is a secret"),
        ("../elsewhere.csv", "lies outside .*project"),
    ],
)
def test_an_argument_that_stays_here_is_told_before_the_upload(
    argument: str, reason: str, folder: Path
) -> None:
    """The job ended with "no such file", half a minute later."""
    (folder.parent / "elsewhere.csv").touch()
    with pytest.raises(ClusterError, match=f"stays here.*{reason}"):
        submit(
            "job.py",
            ["table.yaml", argument],
            settings=ClusterSettings(address="auto"),
            home=folder / "home",
            working_dir=folder,
        )


def test_other_arguments_are_the_scripts(folder: Path) -> None:
    upload = Upload.of(folder, home=folder / "home")
    upload.check(
        Path("job.py"), ["data", "--set", "a=b", "table.csv", str(folder / "table.parquet"), ""]
    )
    upload.check(Path("job.py"), ["x" * 5000, "\0"])  # no names of files


def test_a_script_that_is_not_there_is_told_before_the_upload(folder: Path) -> None:
    upload = Upload.of(folder, home=folder / "home")
    with pytest.raises(ClusterError, match=r"no script jobs/trian\.py in .*project"):
        upload.check(Path("jobs/trian.py"), [])
    upload.check(Path("/opt/jobs/train.py"), [])
