from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from raymlops import cli
from raymlops.cli.app import app, main
from raymlops.cli.output import person
from raymlops.errors import ConfigError


def test_a_known_error_is_one_line_and_exit_status_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "raymlops", "train", str(tmp_path / "none.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"raymlops: there is no configuration file {tmp_path / 'none.yaml'}\n"
    assert done.stdout == ""


_INTERRUPTED_AT = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == os.environ["INTERRUPTED_AT"]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from raymlops.cli import main
main()
"""


@pytest.mark.parametrize(
    ("module", "status"),
    [("raymlops.cli.app", -signal.SIGINT), ("typer", -signal.SIGINT), ("raymlops.operate", 130)],
)
def test_ctrl_c_shows_no_traceback_while_a_command_starts(
    module: str, status: int, tmp_path: Path
) -> None:
    # It showed up to fifty lines of imports.
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_AT, "status", "--home", str(tmp_path)],
        env={**os.environ, "INTERRUPTED_AT": module},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


_IMPATIENT = """
import signal, sys
from raymlops.cli import app, main

def verb():
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        for _ in range(int(sys.argv[1])):
            signal.raise_signal(signal.SIGINT)
        print("run digits-1 is interrupted")

app.main = verb
main()
"""


@pytest.mark.parametrize(
    ("num_more", "status", "recorded", "told"),
    [
        (0, 130, "run digits-1 is interrupted\n", ""),
        (1, 130, "run digits-1 is interrupted\n", "Ctrl-C once more ends it at once"),
        (2, -signal.SIGINT, "", "Ctrl-C once more ends it at once"),
    ],
)
def test_a_second_ctrl_c_does_not_break_into_the_end_of_the_first(
    num_more: int, status: int, recorded: str, told: str
) -> None:
    """A run of which nobody knew how it ended, and a traceback of Ray's end."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPATIENT, str(num_more)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (status, recorded)
    assert (told in done.stderr) if told else not done.stderr
    assert "Traceback" not in done.stderr


_HUNG_UP = """
import signal, sys
from raymlops.cli import app, main

def verb():
    try:
        for _ in range(3):  # by the kernel, the shell and what the shell was started by
            signal.raise_signal(signal.SIGHUP)
        print("it goes on")
    finally:
        signal.raise_signal(signal.SIGHUP)
        print("run digits-1 has ended")

app.main = verb
if len(sys.argv) > 1:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
main()
"""


@pytest.mark.parametrize(
    ("nohup", "status", "said"),
    [
        ([], 130, "run digits-1 has ended\n"),
        (["nohup"], 0, "it goes on\nrun digits-1 has ended\n"),
    ],
)
def test_a_terminal_that_is_closed_interrupts_what_runs_in_it(
    nohup: list[str], status: int, said: str
) -> None:
    """It killed it: runs were said to run, and models to be served, by nobody."""
    done = subprocess.run(
        [sys.executable, "-c", _HUNG_UP, *nohup], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, said, "")


_UNDER_WAY = """
import signal, sys
from raymlops.cli.signals import ended_by_signal

ended = ended_by_signal()
for number in sys.argv[1:]:
    signal.raise_signal(int(number))
print("the look is over", ended.is_set())
"""


@pytest.mark.parametrize(
    ("signals", "status", "over", "told"),
    [
        ([signal.SIGTERM], 0, "the look is over True\n", ""),
        ([signal.SIGHUP, signal.SIGHUP, signal.SIGHUP], 0, "the look is over True\n", ""),
        ([signal.SIGINT, signal.SIGINT], 0, "the look is over True\n", "Ctrl-C once more ends it"),
        ([signal.SIGINT, signal.SIGINT, signal.SIGINT], -signal.SIGINT, "", "Ctrl-C once more"),
        ([signal.SIGINT, signal.SIGTERM, signal.SIGTERM], -signal.SIGTERM, "", "Ctrl-C once more"),
    ],
)
def test_a_verb_that_hangs_in_what_is_under_way_can_be_ended(
    signals: list[signal.Signals], status: int, over: str, told: str
) -> None:
    """Nothing but kill -9 ended a `watch` that waited for its training, or for a store."""
    done = subprocess.run(
        [sys.executable, "-c", _UNDER_WAY, *(str(int(each)) for each in signals)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (status, over)
    assert (told in done.stderr) if told else not done.stderr


def test_ctrl_c_before_there_is_a_verb_is_its_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("raymlops.cli.app.app", interrupted)
    with pytest.raises(SystemExit, match="130"):
        cli.main()


def test_versions_that_share_no_pool_are_deployed_one_by_one() -> None:
    with pytest.raises(ConfigError, match=r"2 versions are named, and no --pool"):
        CliRunner().invoke(app, ["deploy", "a@champion", "b@champion"], catch_exceptions=False)


def test_a_file_that_cannot_be_written_is_named_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("wind\n" + "\n".join(str(row % 97) for row in range(1000)))
    given = ["raymlops", "drift", "compare", str(table), str(table), "--html", str(tmp_path)]
    monkeypatch.setattr("sys.argv", given)
    with pytest.raises(SystemExit, match="1"):
        main()
    assert capsys.readouterr().err == f"raymlops: [Errno 21] Is a directory: '{tmp_path}'\n"


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["models", "list"]])
def test_a_full_disk_behind_stdout_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    # It showed a traceback through the command line's libraries.
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "raymlops", *arguments, "--home", str(tmp_path)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    told = "[Errno 28] No space left on device: 'standard output'"
    expected = f'{{"error":"{told}","type":"OSError"}}' if "--json" in arguments else told
    assert done.stderr.removeprefix("raymlops: ") == f"{expected}\n"


def test_a_disk_without_room_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of a `report` it was a traceback: whoever writes on is told of no file.
    def write() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("raymlops.cli.app.app", write)
    with pytest.raises(SystemExit, match="1"):
        main()
    assert capsys.readouterr().err == "raymlops: [Errno 28] No space left on device\n"


def test_letters_that_stdout_does_not_have_are_escaped(tmp_path: Path) -> None:
    # The command ended in a traceback, after it had done what it was asked for.
    done = subprocess.run(
        [sys.executable, "-m", "raymlops", "status", "--home", str(tmp_path / "høme")],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "h\\xf8me" in done.stdout


def test_an_argument_that_is_no_text_is_told_of_as_json(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "raymlops",
            "train",
            os.fsencode(tmp_path) + b"/\xff.yaml",
            "--json",
        ],
        capture_output=True,
        check=False,
    )
    assert json.loads(done.stderr)["error"].endswith("/\\udcff.yaml")


def test_who_has_a_number_and_no_name_is_told_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container run as a user of no entry in its passwd, `promote` ended with a KeyError."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_123)
    assert person() == "uid 4000123"
