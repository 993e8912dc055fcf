"""Every command speaks JSON: one document on standard output, errors as one line on stderr."""

from __future__ import annotations

import json
import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main
from typer.testing import CliRunner

from raymlops.cli.app import app, main
from raymlops.cli.output import emit_error, emit_json, emit_json_line
from raymlops.config import Secret
from raymlops.errors import IntegrityError, RaymlopsError
from raymlops.ledger import Ledger
from raymlops.ledger.fencing import Fence
from tests.cli.commands import run


def leaves(command: click.Command, name: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield " ".join(name), command
        return
    for word, inner in below.items():
        yield from leaves(inner, (*name, word))


COMMANDS = dict(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_json(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert "--json" in options


def test_what_needs_no_ray_prints_one_document(
    home: Path, config: Path, table: Path, registered: str, tmp_path: Path
) -> None:
    at_home = ("--home", str(home))
    labels = tmp_path / "labels.csv"
    labels.write_text("request_id,label\nq-1,1\n")
    for arguments in (
        ("data", "add", str(table), str(config), *at_home),
        ("data", "list", *at_home),
        ("models", "list", *at_home),
        ("runs", "list", *at_home),
        ("promote", "tumours@1.0.0", "--why", "first", *at_home),
        ("promote", "tumours@1.0.1", "--why", "better", *at_home),
        ("rollback", "tumours", "--why", "it was not", *at_home),
        ("labels", "tumours", str(labels), *at_home),
        ("decisions", "tumours", *at_home),
        (
            "ledger",
            "forget-predictions",
            str(config),
            "--keep-days",
            "200",
            "--why",
            "room",
            *at_home,
        ),
        ("why", "tumours@1.0.1", *at_home),
        ("at", "tumours", *at_home),
        ("report", "tumours", "-o", str(tmp_path / "report.html"), *at_home),
        ("status", *at_home),
        ("down", *at_home),
        ("doctor", *at_home),
        ("config", "explain", "serve.port"),
        ("config", "show", str(config)),
        ("config", "check", str(config)),
    ):
        assert json.loads(run(*arguments, "--json")), arguments


def test_the_ledger_is_verified_and_a_lock_forgotten(home: Path, config: Path, table: Path) -> None:
    at_home = ("--home", str(home), "--json")
    run("data", "add", str(table), str(config), *at_home)
    with (
        Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger,
        ledger.fenced(Fence(name="operator-tumours", token=3)),
    ):
        pass
    untouched = json.loads(run("ledger", "verify", *at_home))
    assert (untouched["num_artifacts"], untouched["problems"]) == (1, [])
    forgotten = json.loads(run("ledger", "forget-lock", "operator-tumours", "--why", "x", *at_home))
    assert forgotten["outcome"] == "token 3 of lock operator-tumours is forgotten"

    with sqlite3.connect(home / "ledger.db") as connection:
        connection.execute("UPDATE datasets SET num_rows = 7")
    connection.close()
    found = CliRunner().invoke(app, ["ledger", "verify", *at_home])
    assert isinstance(found.exception, IntegrityError)
    assert json.loads(found.stdout)["problems"] == [
        "dataset tumours 1 is not what was written: its row was changed"
    ]


def test_settings_are_shown_and_checked(config: Path) -> None:
    shown = {row["key"]: row for row in json.loads(run("config", "show", str(config), "--json"))}
    assert shown["serve.port"]["origin"] == f"{config}:11"
    assert shown["data.features[1].name"]["value"] == "size"
    checked = json.loads(run("config", "check", str(config), "--json"))
    assert checked["num_settings"] == len(shown)
    assert "settings, " in run("config", "check", str(config))


def test_a_home_may_have_any_name(tmp_path: Path) -> None:
    # In one with a `?` the ledger was a file beside it, in one with %41 in a folder with an A.
    for name in ("a: b # c", "${env:NOBODY}", "123", "what?", "50%41", "ä b"):
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps(name))
        trust = ("models", "trust", str(tmp_path / f"{name}.pkl"), "--why", "a test")
        run(*trust, "--home", str(tmp_path / name))
        assert (tmp_path / name / "ledger.db").is_file()


def test_an_error_is_one_json_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "none.yaml"
    monkeypatch.setattr(sys, "argv", ["raymlops", "config", "check", str(path), "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {
        "error": f"there is no configuration file {path}",
        "type": "ConfigError",
    }


def test_a_scripts_own_json_option_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    at_home = ["--home", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["raymlops", "submit", *at_home, "--", "job.py", "--json"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err.startswith("raymlops: ")


def test_a_bug_is_told_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = Secret("shibboleth-77")

    def fail(*_: object, **__: object) -> None:
        raise KeyError(secret.reveal())

    monkeypatch.setattr("raymlops.cli.configuration.open_workspace", fail)
    monkeypatch.setattr(sys, "argv", ["raymlops", "config", "show", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "shibboleth" not in told
    assert "Traceback" in told
    assert json.loads(told.splitlines()[-1]) == {"error": "'***'", "type": "KeyError"}


def test_errors_and_documents_hide_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    secret = Secret("shibboleth-78")
    emit_error(RaymlopsError(f"no route to {secret.reveal()}"), json=False)
    assert capsys.readouterr().err == "raymlops: no route to ***\n"
    emit_json({"secret": secret})
    assert json.loads(capsys.readouterr().out) == {"secret": "***"}
    emit_json_line({"a": [1, 2]})
    assert capsys.readouterr().out == '{"a":[1,2]}\n'


def test_logs_hide_secrets() -> None:
    script = (
        "import logging; from raymlops.cli.output import log_to_stderr; "
        "from raymlops.config import Secret; log_to_stderr(); secret = Secret('shibboleth-79')\n"
        "try:\n    raise OSError(secret.reveal())\n"
        "except OSError:\n    logging.getLogger('x').exception('to %s', secret.reveal())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stderr.startswith("ERROR x: to ***\nTraceback")
    assert done.stderr.endswith("OSError: ***\n")


def test_of_ray_serve_only_warnings_are_told() -> None:
    """It told of an address of its own, above the one that answers."""
    script = (
        "import logging; from raymlops.cli.output import log_to_stderr; log_to_stderr()\n"
        "import ray.serve\n"  # sets level and handler
        "logging.getLogger('ray.serve').info('ready at http://127.0.0.1:8000/')\n"
        "logging.getLogger('ray.serve').warning('slow')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "ready at" not in done.stderr
    assert "slow" in done.stderr


def test_of_ray_data_only_problems_are_told() -> None:
    """It told of each plan it carried out, and warned of bars that are off because we say so."""
    script = (
        "from raymlops.cli.output import log_to_stderr; log_to_stderr()\n"
        "import ray.data\n"  # sets level and handler
        "from ray.data._internal import progress\n"
        "from ray.data._internal.execution import streaming_executor\n"
        "streaming_executor.logger.info('Starting execution of Dataset')\n"
        "progress.logger.warning('Progress bars disabled')\n"
        "streaming_executor.logger.warning('a worker died')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "Starting" not in done.stderr
    assert "bars" not in done.stderr
    assert "a worker died" in done.stderr
