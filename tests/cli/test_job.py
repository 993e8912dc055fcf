from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

import pytest

from raymlops.cli.job import open_job
from raymlops.config import Secret


def test_a_script_that_fails_tells_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = Secret("shibboleth-80")

    def fail(*_: object, **__: object) -> None:
        raise OSError(f"no route to {secret.reveal()}")

    monkeypatch.setattr("raymlops.cli.job.Workspace.open", fail)
    arguments = argparse.Namespace(configs=[], set=[], home=tmp_path)
    with pytest.raises(SystemExit) as ended, open_job(arguments):
        pass
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert told.endswith("OSError: no route to ***\n")


def test_a_mistake_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was told like a bug, at the end of a traceback."""
    arguments = argparse.Namespace(configs=[tmp_path / "none.yaml"], set=[], home=tmp_path)
    with pytest.raises(SystemExit) as ended, open_job(arguments):
        pass
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert told == f"raymlops: there is no configuration file {tmp_path}/none.yaml\n"


def test_an_interrupted_script_ends_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of Ray's frames followed the line that says how a training goes on."""
    monkeypatch.setattr("raymlops.cli.job.Workspace.connect", lambda _: contextlib.nullcontext())
    arguments = argparse.Namespace(configs=[], set=[], home=tmp_path)
    with pytest.raises(SystemExit) as ended, open_job(arguments):
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == ""
