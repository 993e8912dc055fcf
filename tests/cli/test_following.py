"""A run followed by whoever wants to know: until it ends, and with its end as exit status."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from raymlops.cli.app import app
from raymlops.cli.following import Bar, Lines, Sight, follow, following, is_due
from raymlops.cluster import Session
from raymlops.errors import LedgerError, NotFoundError, TrainingError
from raymlops.ledger import Code, Ledger, Run, patience
from raymlops.ledger.records import Metric
from raymlops.ledger.tracking.runs import Runs
from raymlops.operate import Workspace
from tests.cli.commands import run as run_verb

COMMAND = [sys.executable, "-m", "raymlops", "runs", "watch"]
START = (
    "import os, sys; from raymlops.ledger import Code, Ledger; ledger = Ledger(sys.argv[1]); "
    "run = ledger.runs.start(kind='train', model='digits', params={}, config='', environment='', "
    "code=Code(commit='c' * 40, dirty_digest=None), inputs={}); print(run.id, flush=True); "
    "os._exit(1)"
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def records(home: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        yield ledger


def begun(ledger: Ledger) -> Run:
    started = ledger.runs.start(
        kind="train",
        model="digits",
        params={"plan": {}},
        code=Code(commit="c" * 40, dirty_digest=None),
        config="",
        environment="",
        inputs={},
    )
    ledger.runs.log(started.id, {"num_steps": 40}, step=0)
    return started


@pytest.fixture
def training(records: Ledger) -> Run:
    return begun(records)


class Seen:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.sights: list[Sight] = []
        self.closed = False
        self.changed = threading.Condition()

    def show(self, sight: Sight, now_s: float) -> None:
        with self.changed:
            self.sights.append(sight)
            self.changed.notify_all()

    def close(self) -> None:
        self.closed = True


def test_another_process_watches_until_the_run_is_finished(
    home: Path, records: Ledger, training: Run
) -> None:
    with subprocess.Popen(
        [*COMMAND, training.id, "--home", str(home), "--json"], stdout=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        assert (first["status"], first["step"], first["num_steps"]) == ("running", 0, 40)
        records.runs.log(training.id, {"loss": 0.5, "rows_per_s": 100.0}, step=3)
        second = json.loads(watching.stdout.readline())
        assert (second["step"], second["metrics"]) == (3, {"loss": 0.5, "rows_per_s": 100.0})
        records.runs.finish(training.id)
        last = [json.loads(line) for line in watching.stdout][-1]
    assert last["status"] == "finished"
    assert watching.returncode == 0


def test_a_run_that_failed_or_was_lost_is_an_error(
    home: Path, records: Ledger, training: Run
) -> None:
    records.runs.fail(training.id, "the loss is nan")
    with pytest.raises(TrainingError, match=f"run {training.id} is failed: the loss is nan"):
        run_verb("runs", "watch", training.id, "--home", home)
    died = subprocess.run(
        [sys.executable, "-c", START, records.url], capture_output=True, text=True, check=False
    )
    lost = died.stdout.strip()
    with pytest.raises(TrainingError, match=f"run {lost} is lost: its process has died"):
        run_verb("runs", "watch", lost, "--home", home)
    with pytest.raises(NotFoundError, match="no run 'none'"):
        run_verb("runs", "watch", "none", "--home", home)


def test_a_finished_run_is_told_in_one_line(home: Path, records: Ledger, training: Run) -> None:
    records.runs.log(
        training.id, {"loss": 0.25, "validation_loss": 0.5, "rows_per_s": 12_345.0, "mfu": 0.1},
        step=40,
    )  # fmt: skip
    records.runs.finish(training.id)
    told = run_verb("runs", "watch", training.id, "--home", home)
    assert told == (
        f"{training.id} finished, step 40 of 40: loss 0.2500, validation_loss 0.5000, "
        "12,345 rows/s\n"
    )


def test_a_thread_follows_beside_other_work_and_ends_with_it(
    records: Ledger, training: Run
) -> None:
    screen = Seen()
    with following(records, screen) as start:
        start(training)
        records.runs.log(training.id, {"loss": 0.5}, step=7)
        with screen.changed:
            screen.changed.wait_for(lambda: screen.sights and screen.sights[-1].step == 7, 30)
        records.runs.log(training.id, {"loss": 0.4}, step=8)
    assert not any(thread.name == "raymlops-follow" for thread in threading.enumerate())
    assert screen.closed
    assert screen.sights[-1].step == 8  # the last look comes after all that was done
    assert screen.sights[-1].run.status == "running"


def test_a_run_is_followed_on_once_its_ledger_is_back(
    records: Ledger,
    training: Run,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A database that was started anew ended what was told of hours of training."""
    monkeypatch.setattr(patience, "_RETRY_S", 0.0)
    screen, get, errors = Seen(), Runs.get, [LedgerError("gone"), LedgerError("gone")]

    def away(runs: Runs, run_id: str) -> Run:
        if screen.sights and errors:
            raise errors.pop()
        return get(runs, run_id)

    monkeypatch.setattr(Runs, "get", away)
    with following(records, screen) as start:
        start(training)
        with screen.changed:
            screen.changed.wait_for(lambda: len(screen.sights) == 2, 30)
    assert caplog.messages == [f"run {training.id} goes on unseen, and waits up to 5 minutes: gone"]


def test_what_has_ended_waits_for_no_ledger_to_be_seen(
    records: Ledger,
    training: Run,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried = threading.Event()

    def away(*_: object) -> Run:
        tried.set()
        raise LedgerError("gone")

    monkeypatch.setattr(Runs, "get", away)
    with following(records, Seen()) as start:
        start(training)
        tried.wait(30)
    assert caplog.messages[-1] == f"run {training.id} is not followed any more: gone"


def test_lines_come_every_ten_seconds_and_at_the_end(training: Run) -> None:
    first = Sight(run=training, step=1, num_steps=None, values={})
    later = replace(first, step=2)
    ended = replace(later, run=replace(training, status="finished"))
    assert is_due(None, first, age_s=0.0)
    assert not is_due(first, later, age_s=9.9)
    assert is_due(first, later, age_s=10.0)
    assert not is_due(later, later, age_s=60.0)
    assert is_due(later, ended, age_s=0.0)


@pytest.mark.parametrize(
    ("status", "step_s", "minutes", "silent"),
    [
        ("running", 0.5, 1.9, 1),
        ("running", 0.5, 0.9, 0),
        ("running", 100.0, 4.9, 0),  # no more than three of its steps
        ("running", 100.0, 5.1, 5),
        ("finished", 0.5, 30.0, 0),
    ],
)
def test_a_run_that_hangs_is_silent(
    status: Any, step_s: float, minutes: float, silent: int, training: Run
) -> None:
    """A worker that hung was told of after ten minutes, and a reader of data never."""
    at = training.started_at
    run = replace(training, status=status, ended_at=at if status == "finished" else None)
    sight = Sight.of(
        run,
        [Metric(name="step_s", step=20, value=step_s, at=at)],
        now=at + timedelta(minutes=minutes),
    )
    assert sight.silent_minutes == silent
    assert ("nothing new for" in sight.told) == (silent > 0)


def test_silence_is_told_each_time_it_has_doubled(training: Run) -> None:
    out = io.StringIO()
    lines = Lines(Console(file=out))
    sight = Sight(run=training, step=20, num_steps=40, values={"loss": 0.5})
    for minute in range(10):
        lines.show(replace(sight, silent_minutes=minute), 60.0 * minute)
    lines.show(replace(sight, step=21), 600.0)
    told = [line.removeprefix(f"{training.id} running, ") for line in out.getvalue().splitlines()]
    assert told == [
        "step 20 of 40: loss 0.5000",
        "step 20 of 40: loss 0.5000, nothing new for 1 minute",
        "step 20 of 40: loss 0.5000, nothing new for 2 minutes",
        "step 20 of 40: loss 0.5000, nothing new for 4 minutes",
        "step 20 of 40: loss 0.5000, nothing new for 8 minutes",
        "step 21 of 40: loss 0.5000",
    ]


def test_values_without_a_loss_are_all_told(training: Run) -> None:
    sight = Sight(run=training, step=1, num_steps=None, values={"accuracy": 0.9, "auc": 0.8})
    out = io.StringIO()
    Lines(Console(file=out)).show(sight, 0.0)
    assert out.getvalue() == f"{training.id} running, step 1: accuracy 0.9000, auc 0.8000\n"


def test_a_terminal_gets_a_bar(records: Ledger, training: Run) -> None:
    records.runs.log(training.id, {"loss": 0.5, "rows_per_s": 2_000.0}, step=10)
    records.runs.finish(training.id)
    out = io.StringIO()
    follow(records, training.id, Bar(Console(file=out, force_terminal=True, width=160)))
    drawn = out.getvalue()
    assert "10/40 0:00:0" in drawn
    assert "loss 0.5000, 2,000 rows/s" in drawn
    assert "\x1b[?25h" in drawn  # the cursor is back


def test_a_narrow_terminal_shows_how_far_a_run_is(records: Ledger) -> None:
    """Of 80 columns values took so many that `12,340/20,000` was `12,…`, and there was no bar."""
    run = begun(records)
    sight = Sight(
        run=run,
        step=12_340,
        num_steps=20_000,
        values={"loss": 0.5, "train_loss": 1.25, "validation_loss": 1.5, "rows_per_s": 12_345.0},
        elapsed=timedelta(seconds=3_671),
    )
    out = io.StringIO()
    bar = Bar(Console(file=out, force_terminal=True, color_system=None, width=80))
    bar.show(sight, 0.0)
    bar.close()
    line = next(line for line in out.getvalue().splitlines() if "12,340" in line)
    assert f"{run.id} ━" in line
    assert "12,340/20,000 1:01:11 loss 0.5000, train_loss 1.2" in line
    assert line.rstrip().endswith("…")


def test_a_table_tells_its_run_when_it_begins_and_when_it_is_interrupted(
    home: Path, records: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was printed from its start to Ctrl-C, and nothing then."""

    def train(workspace: Workspace, _: object, *, on_start: Callable[[Run], None]) -> None:
        run = begun(workspace.ledger)
        with workspace.ledger.runs.recording(run):
            on_start(run)
            raise KeyboardInterrupt

    session = Session(address="", dashboard_url="http://dash", namespace="", owned=True)
    monkeypatch.setattr(Workspace, "connect", lambda _: nullcontext(session))
    monkeypatch.setattr("raymlops.operate.newest_data", lambda _: None)
    monkeypatch.setattr("raymlops.operate.train", train)
    told = CliRunner().invoke(app, ["train", "configs/flights.yaml", "--home", str(home)])
    (run,) = records.runs.list()
    assert told.exit_code == 130
    assert [line.split() for line in told.stdout.splitlines()] == [
        ["plan", "data=1"],
        ["run", run.id],
        ["watch", "raymlops", "runs", "watch", run.id, "--home", str(home)],
        ["dashboard", "http://dash"],
    ]
    assert f"{run.id} interrupted, step 0" in told.stderr
    assert run.error == "KeyboardInterrupt"
