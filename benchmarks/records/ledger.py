"""The ledger on SQLite: logging against mlflow-skinny, registering, searching, memory.

What is durable when:
- mlflow's `log_metric` commits each value; SQLAlchemy's default for SQLite is a rollback journal
  with synchronous=FULL, and mlflow changes neither.
- our `log` commits each value; WAL with synchronous=FULL.
- our `logger` commits groups; each value is durable when the block has ended, which is timed too.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sqlite3
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import create_engine, insert

from benchmarks.figures import Figure, seconds
from raymlops.ledger import Code, Ledger, schema
from raymlops.ledger.database import now

GOAL_TIMES = 20
NUM_WRITERS = 8
WHERE = "params.epochs >= 3 and metrics.log_loss < 0.5 and tags.team = 'a'"


def figures(quick: bool) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="raymlops-ledger-") as folder:
        return [
            *_logging(Path(folder), repeats=3 if quick else 7, count=200 if quick else 500),
            _eight_writers(Path(folder), count=2_000 if quick else 10_000),
            _registering(Path(folder), count=200 if quick else 1_000),
            *_searching(Path(folder), sizes=(1_000,) if quick else (1_000, 10_000)),
            _memory(Path(folder)),
        ]


def _logging(folder: Path, *, repeats: int, count: int) -> list[Figure]:
    """All of them in turn, so that a noisy machine disturbs them alike; medians of the rates."""
    ledger = Ledger(f"sqlite:///{folder / 'log.db'}")
    run_id = _start(ledger)
    log_metric, journal = _mlflow(folder)
    plain = _plain_sqlite(folder)

    def synchronous() -> None:
        for step in range(count):
            ledger.runs.log(run_id, {"loss": 0.5}, step=step)

    def buffered() -> None:
        with ledger.runs.logger(run_id) as log:
            for step in range(count * 20):
                log({"loss": 0.5}, step=step)

    def mlflow() -> None:
        for step in range(count // 5):
            log_metric(step)

    def insert_commit() -> None:
        for step in range(count):
            plain(step)

    sizes: dict[Callable[[], None], int] = {
        synchronous: count, buffered: count * 20, mlflow: count // 5, insert_commit: count,
    }  # fmt: skip
    for call in sizes:
        call()  # caches and connections
    rates: dict[Callable[[], None], list[float]] = {call: [] for call in sizes}
    for _ in range(repeats):
        for call, size in sizes.items():
            rates[call].append(size / seconds(call))
    ledger.close()
    median = {call: statistics.median(values) for call, values in rates.items()}
    peer = f"mlflow-skinny log_metric ({journal})"
    return [
        Figure(
            name=f"log_{name}_per_s",
            unit="rows/s",
            ours=median[call],
            references={
                peer: median[mlflow],
                "sqlite3 INSERT alone (wal, full)": median[insert_commit],
            },
            goal=f">= {GOAL_TIMES} x mlflow",
            met=median[call] >= GOAL_TIMES * median[mlflow],
        )
        for name, call in (("buffered", buffered), ("synchronous", synchronous))
    ]  # fmt: skip


def _mlflow(folder: Path) -> tuple[Callable[[int], None], str]:
    """Logs a value at a step with mlflow; and the journal and synchronous mode it runs in."""
    os.environ["GIT_PYTHON_REFRESH"] = "quiet"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    logging.disable(logging.WARNING)  # it tells of each migration
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    run_id = client.create_run("0").info.run_id
    logging.disable(logging.NOTSET)
    with sqlite3.connect(folder / "mlflow.db") as connection:
        (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
        (level,) = connection.execute("PRAGMA synchronous").fetchone()
    connection.close()
    names = {0: "off", 1: "normal", 2: "full"}

    def log(step: int) -> None:
        client.log_metric(run_id, "loss", 0.5, step=step)

    return log, f"{journal}, {names[level]}"


def _plain_sqlite(folder: Path) -> Callable[[int], None]:
    """One row and its commit, by the sqlite3 module: nothing that is durable can be quicker."""
    Ledger(f"sqlite:///{folder / 'plain.db'}").close()
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    statement = "INSERT INTO metrics (run_id, name, step, value, at) VALUES (?, ?, ?, ?, ?)"

    def write(step: int) -> None:
        connection.execute(statement, ("r", "loss", step, 0.5, "2024-01-01 00:00:00.000000"))

    return write


def _eight_writers(folder: Path, *, count: int) -> Figure:
    url = f"sqlite:///{folder / 'eight.db'}"
    with Ledger(url) as ledger:
        run_id = _start(ledger)
        context = multiprocessing.get_context("spawn")
        ready, begin = context.Semaphore(0), context.Event()
        processes = [
            context.Process(target=_write, args=(url, run_id, count, ready, begin))
            for _ in range(NUM_WRITERS)
        ]
        for process in processes:
            process.start()
        for _ in processes:
            ready.acquire()
        started = time.perf_counter()
        begin.set()
        for process in processes:
            process.join()
        took_s = time.perf_counter() - started
        kept = len(ledger.runs.metrics(run_id))
    lost = NUM_WRITERS * count - kept
    return Figure(
        name="log_eight_processes_per_s",
        unit="rows/s",
        ours=kept / took_s,
        references={"rows lost": lost},
        goal="0 rows lost",
        met=lost == 0,
    )


def _write(url: str, run_id: str, count: int, ready: object, begin: object) -> None:
    with Ledger(url) as ledger:
        ready.release()  # type: ignore[attr-defined]
        begin.wait()  # type: ignore[attr-defined]
        with ledger.runs.logger(run_id) as log:
            for step in range(count):
                log({"loss": 0.5}, step=step)


def _registering(folder: Path, *, count: int) -> Figure:
    with Ledger(f"sqlite:///{folder / 'registry.db'}") as ledger:
        run_id = _start(ledger)

        def register() -> None:
            for _ in range(count):
                ledger.registry.register("m", bundle="b", signature="{}", run_id=run_id)

        first = count / seconds(register)
        second = count / seconds(register)
    return Figure(
        name="register_per_s",
        unit="versions/s",
        ours=second,
        references={f"the {count} before": first},
    )


def _searching(folder: Path, *, sizes: tuple[int, ...]) -> list[Figure]:
    found = []
    for size in sizes:
        url = f"sqlite:///{folder / f'search-{size}.db'}"
        with Ledger(url) as ledger:
            _fill(url, size)
            ledger.runs.list(where=WHERE, limit=1)

            def search() -> None:
                ledger.runs.list(where=WHERE, order_by="metrics.log_loss", limit=20)

            def best() -> None:
                ledger.runs.best("log_loss", minimize=True)

            found += [
                Figure(
                    name=f"{name}_{size}_runs_ms",
                    unit="ms",
                    ours=1000 * statistics.median(seconds(call) for _ in range(7)),
                    references={},
                    goal="< 250",
                    met=statistics.median(seconds(call) for _ in range(7)) < 0.25,
                )
                for name, call in (("search", search), ("best", best))
            ]
    return found


def _fill(url: str, size: int) -> None:
    """Runs with three parameters, two tags and two metrics of five steps each."""
    at = now()
    with Ledger(url) as ledger:
        text = _start(ledger)
        digest = ledger.runs.get(text).config_digest
    runs, params, tags, metrics = [], [], [], []
    for number in range(size):
        run_id = f"m-{number:08d}"
        runs.append(
            {
                "id": run_id, "kind": "train", "model": "m", "status": "finished", "commit": "c",
                "config_digest": digest, "environment_digest": digest, "started_at": at,
            }
        )  # fmt: skip
        for name, value in (("epochs", number % 7), ("lr", number / size), ("seed", number)):
            params.append({"run_id": run_id, "name": name, "value": value, "number": float(value)})
        for name, value in (("team", "abcd"[number % 4]), ("note", "x")):
            tags.append({"run_id": run_id, "name": name, "value": value})
        for name in ("log_loss", "auc"):
            for step in range(5):
                value = ((number * 7919 + step) % size) / size
                metrics.append(
                    {"run_id": run_id, "name": name, "step": step, "value": value, "at": at}
                )
    engine = create_engine(url)
    with engine.begin() as connection:
        for table, rows in (
            (schema.runs, runs), (schema.params, params), (schema.tags, tags),
            (schema.metrics, metrics),
        ):  # fmt: skip
            connection.execute(insert(table), rows)
    engine.dispose()


def _memory(folder: Path) -> Figure:
    """What 100,000 logged values cost a training while they are written."""
    with Ledger(f"sqlite:///{folder / 'memory.db'}") as ledger:
        run_id = _start(ledger)
        tracemalloc.start()
        with ledger.runs.logger(run_id) as log:
            for step in range(100_000):
                log({"loss": 0.5}, step=step)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return Figure(name="log_buffered_peak_mb", unit="MB", ours=peak / 1e6, references={})


def _start(ledger: Ledger) -> str:
    run = ledger.runs.start(
        kind="train", model="m", params={}, code=Code(commit="c", dirty_digest=None), config="",
        environment="", inputs={},
    )  # fmt: skip
    return run.id
