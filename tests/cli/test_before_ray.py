"""What cannot be done is told before Ray starts."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.errors import DataError, NotFoundError
from raymlops.operate import Workspace
from tests.cli.commands import run


@pytest.mark.parametrize("verb", ["train", "tune"])
def test_without_data_it_is_told_before_ray_starts(
    verb: str, home: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Workspace, "connect")
    with pytest.raises(
        NotFoundError, match=r"no dataset tumours; .* `raymlops data add FILE CONFIG"
    ):
        run(verb, config, "--home", home)


@pytest.mark.usefixtures("registered")
def test_rows_that_cannot_be_predicted_are_told_before_ray_starts(
    home: Path, table: Path, tmp_path: Path, tumours: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Workspace, "connect")
    labelled = tmp_path / "labelled.parquet"
    pq.write_table(tumours.append_column("benign", tumours["target"]), labelled)
    for source, target, reason in (
        (table, tmp_path, "exists; nothing is overwritten"),
        (labelled, tmp_path / "out", "have a column 'benign' already"),
        (tmp_path / "none.parquet", tmp_path / "out", "there is no .*none.parquet"),
    ):
        with pytest.raises(DataError, match=reason):
            run("predict", "tumours@1.0.1", source, target, "--home", home)
    with pytest.raises(NotFoundError, match=r"2\.0\.0"):
        run("predict", "tumours@2.0.0", table, tmp_path / "out", "--home", home)
