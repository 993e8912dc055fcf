from __future__ import annotations

from pathlib import Path

import pytest

import raymlops
from raymlops.cluster import ClusterRecord, ClusterSettings, submit
from raymlops.errors import ClusterError

AUTO = ClusterSettings(address="auto")
REPOSITORY = Path(raymlops.__file__).parents[1]

JOINS = """
import sys
from pathlib import Path
from raymlops.cluster import ClusterSettings, connect
with connect(ClusterSettings(address="auto"), home=Path("nowhere")) as session:
    print("joined", session.address, sys.argv[1:], sorted(p.name for p in Path().iterdir()))
"""


def test_a_private_ray_takes_no_job(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="outlives this process"):
        submit("job.py", settings=ClusterSettings(address="local"), home=tmp_path)


def test_a_folder_that_is_not_there_is_not_uploaded(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"missing is not on this .* that holds job\.py"):
        submit("job.py", settings=AUTO, home=tmp_path, working_dir=tmp_path / "missing")


@pytest.mark.cluster
def test_a_job_joins_the_cluster_that_runs_it(
    cluster: ClusterRecord, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "job.py").write_text(JOINS)
    (tmp_path / "big.parquet").write_text("stays here")
    pieces: list[str] = []
    result = submit(
        "job.py",
        ["--name", "a b"],
        settings=AUTO,
        home=home,
        working_dir=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY)},
        on_log=pieces.append,
    )
    assert f"joined {cluster.address} ['--name', 'a b'] ['job.py']" in result.log
    assert "".join(pieces) == result.log


@pytest.mark.cluster
def test_a_job_that_fails_shows_the_end_of_its_log(
    cluster: ClusterRecord, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "job.py").write_text("raise ValueError('flights are late')")
    with pytest.raises(ClusterError, match="exit code 1") as caught:
        submit("job.py", settings=AUTO, home=home, working_dir=tmp_path)
    assert str(caught.value).count("ValueError: flights are late") == 1
