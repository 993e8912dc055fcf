"""Against the real `dvc`, which writes what is read here and judges what was written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.data import TableSchema, add_dataset, as_table, load_dataset, open_source
from raymlops.data.export import export_dvc
from raymlops.errors import DataError, IntegrityError
from raymlops.ledger import Ledger
from raymlops.storage import Store


def dvc(repository: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=repository,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(repository.parent), "DVC_NO_ANALYTICS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, tumours: pa.Table) -> Path:
    """A repository in which dvc tracks a file and a folder."""
    repository = tmp_path_factory.mktemp("dvc") / "repository"
    (repository / "parts" / "größe").mkdir(parents=True)
    pq.write_table(tumours, repository / "t.parquet")
    pq.write_table(tumours.slice(0, 300), repository / "parts" / "a.parquet")
    pq.write_table(tumours.slice(300), repository / "parts" / "größe" / "b.parquet")
    dvc(repository, "init", "--no-scm", "--quiet")
    dvc(repository, "add", "--quiet", "t.parquet", "parts")
    return repository


@pytest.fixture
def repository(tracked: Path, tmp_path: Path) -> Path:
    shutil.copytree(tracked, tmp_path / "repository")
    return tmp_path / "repository"


@pytest.mark.parametrize("name", ["t.parquet.dvc", "parts.dvc"])
@pytest.mark.parametrize("where", ["cache", "workspace"])
def test_what_dvc_tracks_is_read_from_its_cache_or_the_workspace(
    name: str,
    where: str,
    repository: Path,
    tumours: pa.Table,
    tumour_schema: TableSchema,
    ledger: Ledger,
    store: Store,
) -> None:
    if where == "cache":
        (repository / "t.parquet").unlink()
        shutil.rmtree(repository / "parts")
    else:
        for blob in (repository / ".dvc" / "cache").rglob("*"):
            if blob.is_file() and blob.suffix != ".dir":
                blob.unlink()
    dataset = add_dataset(ledger, store, open_source(repository / name), tumour_schema)
    assert load_dataset(store, dataset).equals(tumours)
    pointer = (repository / name).read_text()
    assert dataset.source is not None
    assert dataset.source["kind"] == "dvc"
    assert f"md5: {dataset.source['md5']}" in pointer
    assert dataset.source["path"] == str(repository / name)


def test_the_cache_may_be_elsewhere(repository: Path, tumours: pa.Table) -> None:
    shutil.move(repository / ".dvc" / "cache", repository / "shared")
    (repository / ".dvc" / "config").write_text("[cache]\n    dir = ../shared\n")
    (repository / "t.parquet").unlink()
    assert as_table(open_source(repository / "t.parquet.dvc")).equals(tumours)


def test_bytes_with_another_md5_are_refused(repository: Path) -> None:
    pointer = repository / "t.parquet.dvc"
    shutil.rmtree(repository / ".dvc" / "cache")
    pq.write_table(pa.table({"a": [1]}), repository / "t.parquet")
    with pytest.raises(IntegrityError, match=r"wants t\.parquet with md5 [0-9a-f]{32}, but .* has"):
        open_source(pointer)
    (repository / "t.parquet").unlink()
    with pytest.raises(DataError, match=r"is neither in .*cache nor beside .*`dvc pull`"):
        open_source(pointer)
    with pytest.raises(DataError, match=r"list is not in .*cache; run `dvc pull`"):
        open_source(repository / "parts.dvc")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("outs: [", "cannot be read"),
        ("", "is no DVC pointer"),
        ("outs: []", "is no DVC pointer"),
        ("outs: [{path: a, md5: 1}]", "is no DVC pointer"),
        ("outs: [{path: a.csv}]", "is no DVC pointer"),
        ("outs: [{path: a.csv, md5: abc}]", "'abc', which is no md5"),
        (f"outs: [{{path: ../a.csv, md5: {'a' * 32}}}]", r"'\.\./a\.csv', which lies outside"),
        (f"outs: [{{path: /etc/passwd, md5: {'a' * 32}}}]", "which lies outside its folder"),
        (f"outs: [{{path: a.csv, md5: {'a' * 32}, hash: sha1}}]", "is hashed by sha1"),
    ],
)
def test_a_malformed_pointer_is_refused(repository: Path, text: str, message: str) -> None:
    path = repository / "bad.dvc"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        open_source(path)


def test_a_pointer_outside_a_repository_is_refused(tracked: Path, tmp_path: Path) -> None:
    shutil.copy(tracked / "t.parquet.dvc", tmp_path)
    with pytest.raises(DataError, match="lies in no DVC repository; run `dvc init`"):
        open_source(tmp_path / "t.parquet.dvc")


def test_dvc_takes_what_was_exported_as_its_own(
    repository: Path, tumours: pa.Table, tumour_schema: TableSchema, ledger: Ledger, store: Store
) -> None:
    for source, name in ((tumours, "tumours.parquet"), (repository / "parts.dvc", "tumours")):
        dataset = add_dataset(ledger, store, open_source(source), tumour_schema)
        pointer = export_dvc(store, dataset, repository / "exported")
        assert pointer == repository / "exported" / f"{name}.dvc"
        with pytest.raises(DataError, match="exists already"):
            export_dvc(store, dataset, repository / "exported")
    exported = repository / "exported"
    assert (exported / ".gitignore").read_text() == "/tumours.parquet\n/tumours\n"
    assert dvc(repository, "status").strip() == "Data and pipelines are up to date."
    (exported / "tumours.parquet").unlink()
    shutil.rmtree(exported / "tumours")
    dvc(repository, "checkout", "--quiet")
    assert pq.read_table(exported / "tumours.parquet").equals(tumours)
    assert sorted(path.name for path in (exported / "tumours").rglob("*.parquet")) == [
        "a.parquet",
        "b.parquet",
    ]
    assert as_table(open_source(exported / "tumours")).equals(tumours)
