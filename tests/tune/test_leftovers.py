from __future__ import annotations

import logging
from pathlib import Path

import pytest

from raymlops.tune.leftovers import give_back


def _left_by(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_all_but_tracebacks_is_given_back(scheme: str, tmp_path: Path) -> None:
    search, other = tmp_path / "tuning" / "rain-1", tmp_path / "tuning" / "rain-2"
    _left_by(search, "tuner.pkl", "trial-0/result.json", "trial-1/error.txt", "trial-1/error.pkl")
    _left_by(other, "trial-0/result.json")
    give_back(f"{scheme}{search}")
    assert [each for each in tmp_path.rglob("rain-1/**/*") if each.is_file()] == [
        search / "trial-1" / "error.txt"
    ]
    assert not (search / "trial-0").exists()
    assert (other / "trial-0" / "result.json").exists()
    give_back(f"{scheme}{other}")
    assert not other.exists()
    give_back(f"{scheme}{other}")  # as of a search that went on without a trial


def test_what_cannot_be_removed_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "rain-1").touch()
    with caplog.at_level(logging.WARNING):
        give_back(str(tmp_path / "rain-1"))
    assert "rain-1 was not removed: " in caplog.text
