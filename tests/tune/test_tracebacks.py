from __future__ import annotations

import logging
from pathlib import Path

import pytest

from raymlops.storage import Files
from raymlops.tune.tracebacks import keeping_tracebacks


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (folder := tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def left_by(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def search_that_is_interrupted(files: Files) -> None:
    with keeping_tracebacks(files, "tuning/rain-1") as folder:
        left_by(folder, "rain-1/tuner.pkl", "rain-1/trial-0/result.json")
        left_by(folder, "rain-1/trial-1/error.txt", "rain-1/trial-1/error.pkl")
        raise KeyboardInterrupt


def test_of_a_search_however_it_ends_tracebacks_are_kept(tmp_path: Path, temporary: Path) -> None:
    files = Files(str(tmp_path / "store"))
    with pytest.raises(KeyboardInterrupt):
        search_that_is_interrupted(files)
    assert list(files.list()) == ["tuning/rain-1/trial-1/error.txt"]
    assert files.read("tuning/rain-1/trial-1/error.txt") == b"rain-1/trial-1/error.txt"
    assert list(temporary.iterdir()) == []


def test_a_search_that_failed_nowhere_needs_no_store(tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "store").touch()  # which can hold no file
    with keeping_tracebacks(Files(str(tmp_path / "store")), "tuning/rain-1") as folder:
        left_by(folder, "rain-1/trial-0/result.json")
    assert list(temporary.iterdir()) == []


def test_tracebacks_that_the_store_does_not_take_stay(
    tmp_path: Path, temporary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "store").touch()
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        search_that_is_interrupted(Files(str(tmp_path / "store")))
    (folder,) = temporary.iterdir()
    assert f"tracebacks of trials that failed stay in {folder}, since " in caplog.text
    assert (folder / "rain-1" / "trial-1" / "error.txt").exists()


def test_the_folder_of_a_search_that_was_killed_goes_with_the_next(
    tmp_path: Path, temporary: Path
) -> None:
    """What Ray Tune had written to it stayed for ever; those of searches that run are theirs."""
    files = Files(str(tmp_path / "store"))
    left_by(temporary, "raymlops-tune-killed/rain-1/tuner.pkl", "other/tuner.pkl")
    with keeping_tracebacks(files, "tuning/rain-2") as one:
        left_by(one, "rain-2/tuner.pkl")
        with keeping_tracebacks(files, "tuning/rain-3") as two:
            assert set(temporary.iterdir()) == {temporary / "other", one, two}
        assert (one / "rain-2" / "tuner.pkl").exists()
    assert list(temporary.iterdir()) == [temporary / "other"]
