from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import psutil
import pytest
from sqlalchemy import create_engine, text

from raymlops.errors import ConflictError, LedgerError, NotFoundError
from raymlops.ledger import Code, Ledger, Run
from raymlops.ledger.tracking.heartbeat import Heartbeat
from raymlops.ledger.tracking.liveness import HEARTBEAT_S, LOST_AFTER_S, Sight, status_of

STARTER = """
import sys, time
from raymlops.ledger import Code, Ledger
ledger = Ledger(sys.argv[1])
code = Code(commit="c", dirty_digest=None)
run = ledger.runs.start(kind="train", model="m", params={}, code=code, config="", environment="",
                        inputs={})
print(run.id, flush=True)
sys.stdin.readline()
ledger.runs.finish(run.id)
"""


def start(ledger: Ledger, **more: object) -> Run:
    options = {"kind": "train", "model": "m", "params": {}, "inputs": {}, **more}
    code = Code(commit="c", dirty_digest=None)
    return ledger.runs.start(code=code, config="", environment="", **options)  # type: ignore[arg-type]


def execute(ledger: Ledger, statement: str) -> None:
    engine = create_engine(ledger.url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited 20 s in vain"
        time.sleep(0.01)


def test_tags_are_set_and_replaced(ledger: Ledger, run: Run) -> None:
    ledger.runs.tag(run.id, {"team": "a", "note": 'it\'s "first"'})
    ledger.runs.tag(run.id, {"team": "b"})
    assert ledger.runs.tags(run.id) == {"note": 'it\'s "first"', "team": "b"}
    with pytest.raises(NotFoundError, match="the ledger holds no run 'nobody'"):
        ledger.runs.tag("nobody", {"team": "a"})


def test_artifacts_are_attached_once(ledger: Ledger, run: Run) -> None:
    first = ledger.runs.attach(run.id, "plot.png", "a" * 64, 7)
    assert ledger.runs.attach(run.id, "plot.png", "a" * 64, 7) == first
    assert ledger.runs.artifacts(run.id) == [first]
    assert (first.digest, first.size_bytes) == ("a" * 64, 7)
    with pytest.raises(ConflictError, match="needs a name of its own"):
        ledger.runs.attach(run.id, "plot.png", "b" * 64, 7)


def test_values_of_a_run_that_is_not_there_are_refused(ledger: Ledger, run: Run) -> None:
    with pytest.raises(NotFoundError, match="the ledger holds no run 'nobody'"):
        ledger.runs.log("nobody", {"loss": 1.0})
    ledger.runs.log(run.id, {"loss": 1.0})
    assert ledger.runs.last_metrics(run.id) == {"loss": 1.0}


def test_steps_that_numpy_counted_are_integers(ledger: Ledger, run: Run) -> None:
    """They were kept as bytes, which nothing that reads steps could read."""
    ledger.runs.log(run.id, {"loss": 0.5}, step=np.int64(300))
    with ledger.runs.logger(run.id) as log:
        log({"loss": 0.25}, step=np.int64(301))
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            log({"loss": 0.125}, step=1.5)  # type: ignore[arg-type]
    assert [metric.step for metric in ledger.runs.metrics(run.id)] == [300, 301]
    assert ledger.runs.last_metrics(run.id) == {"loss": 0.25}
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        ledger.runs.log(run.id, {"loss": 0.5}, step=1.5)  # type: ignore[arg-type]


def test_the_newest_of_each_metric_is_told_with_its_step(ledger: Ledger, run: Run) -> None:
    ledger.runs.log(run.id, {"loss": 0.5, "num_steps": 40.0}, step=0)
    for step, loss in ((2, 0.4), (1, 0.6), (2, float("nan"))):
        ledger.runs.log(run.id, {"loss": loss}, step=step)
    loss, num_steps = ledger.runs.newest_metrics(run.id)
    assert (loss.name, loss.step, math.isnan(loss.value)) == ("loss", 2, True)
    assert (num_steps.name, num_steps.step, num_steps.value) == ("num_steps", 0, 40.0)


def test_a_run_is_lost_when_its_process_is_killed_and_not_when_it_sleeps(ledger: Ledger) -> None:
    command = [sys.executable, "-c", STARTER, ledger.url]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        assert ledger.runs.get(run_id).status == "running"
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        assert ledger.runs.get(run_id).status == "running"
        process.kill()
    assert ledger.runs.get(run_id).status == "lost"
    assert [run.id for run in ledger.runs.list(status="lost")] == [run_id]
    assert ledger.runs.list(status="running") == []


def test_a_zombie_is_lost(ledger: Ledger) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, ledger.url],
        stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        assert ledger.runs.get(run_id).status == "lost"


def test_a_run_elsewhere_is_judged_by_its_heartbeat(ledger: Ledger) -> None:
    run = start(ledger)
    execute(ledger, "UPDATE runs SET host = 'elsewhere'")
    assert ledger.runs.get(run.id).status == "running"
    execute(ledger, "UPDATE runs SET heartbeat_at = '2024-01-01 00:00:00.000000'")
    assert ledger.runs.get(run.id).status == "lost"
    # It was only asleep: its next sign of life makes it running again, and it may finish.
    assert ledger.runs.beat([run.id, "nobody"]) == [run.id]
    assert ledger.runs.get(run.id).status == "running"
    ledger.runs.finish(run.id)
    assert ledger.runs.get(run.id).status == "finished"
    assert ledger.runs.beat([run.id]) == []


@pytest.mark.parametrize(
    ("sight", "age_s", "status"),
    [
        ("lives", 10 * LOST_AFTER_S, "running"),
        ("gone", 0.0, "lost"),
        ("unclear", LOST_AFTER_S, "running"),
        ("unclear", LOST_AFTER_S + 1, "lost"),
        ("unclear", None, "running"),
    ],
)
def test_what_a_run_is_follows_from_its_process_and_its_heartbeat(
    sight: Sight, age_s: float | None, status: str
) -> None:
    assert status_of("running", sight, age_s) == status
    assert status_of("failed", sight, age_s) == "failed"
    assert LOST_AFTER_S > 3 * HEARTBEAT_S


def test_the_heartbeat_outlives_a_database_that_is_away() -> None:
    beats: list[Collection[str]] = []
    enough = threading.Event()

    def beat(run_ids: Collection[str]) -> Collection[str]:
        beats.append(run_ids)
        if len(beats) < 3:
            raise ConnectionError("the database is away")
        enough.set()
        return ["b"]

    heartbeat = Heartbeat(beat, every_s=0.01)
    heartbeat.watch("a")
    heartbeat.watch("b")
    thread = heartbeat._thread
    assert thread is not None
    assert enough.wait(10)
    heartbeat.forget("b")  # the other one has ended elsewhere
    wait_until(lambda: not thread.is_alive())


def test_a_ledger_that_takes_no_beat_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """A full disk had a traceback of SQLAlchemy logged at every beat."""
    told = threading.Event()

    def beat(run_ids: Collection[str]) -> Collection[str]:
        if caplog.messages:
            told.set()
            return run_ids
        raise LedgerError("did not acknowledge a write: database or disk is full")

    heartbeat = Heartbeat(beat, every_s=0.01)
    heartbeat.watch("a")
    assert told.wait(10)
    heartbeat.stop()
    (record,) = caplog.records
    assert record.exc_info is None
    assert record.getMessage() == (
        "1 runs could not be spoken for: did not acknowledge a write: database or disk is full"
    )


def test_an_open_run_does_not_keep_a_program_alive(tmp_path: Path) -> None:
    script = STARTER.replace("sys.stdin.readline()", "sys.exit(0)")
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    done = subprocess.run(
        [sys.executable, "-c", script, url], capture_output=True, text=True, check=True, timeout=30
    )
    with Ledger(url) as ledger:
        assert ledger.runs.get(done.stdout.strip()).status == "lost"


def test_a_forked_child_has_connections_and_a_heartbeat_of_its_own(ledger: Ledger) -> None:
    mine = start(ledger)
    child = os.fork()
    if child == 0:  # whatever happens here, the child must not run the tests that follow
        try:
            run = start(ledger, params={"child": True})
            ledger.runs.log(run.id, {"loss": 1.0})
            ledger.runs.finish(run.id)
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    (forked,) = ledger.runs.list(status="finished")
    assert ledger.runs.last_metrics(forked.id) == {"loss": 1.0}
    ledger.runs.log(mine.id, {"loss": 2.0})
    assert ledger.runs.get(mine.id).status == "running"


def test_runs_are_compared_side_by_side(ledger: Ledger, run: Run) -> None:
    other = start(ledger, params={"epochs": 5, "lr": 0.1})
    ledger.runs.log(run.id, {"loss": float("nan"), "auc": 0.5})
    ledger.runs.log(other.id, {"loss": float("nan"), "auc": 0.75})
    ledger.runs.tag(other.id, {"team": "a"})
    comparison = ledger.runs.compare([run.id, other.id])
    assert {(row.group, row.name): row.values for row in comparison.differing} == {
        ("params", "epochs"): (3, 5),
        ("params", "lr"): (None, 0.1),
        ("metrics", "auc"): (0.5, 0.75),
        ("tags", "team"): (None, "a"),
        ("inputs", "train"): ("tumours 1", None),
    }
    assert [row.name for row in comparison.rows] == [
        "epochs", "lr", "auc", "loss", "team", "train",
    ]  # fmt: skip


def test_a_run_tells_whose_it_is_as_people_name_machines(run: Run) -> None:
    """Refusals showed boot and process namespace, too."""
    assert str(run.owner) == f"process {os.getpid()} of {socket.gethostname()}"
