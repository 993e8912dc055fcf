"""The MLflow mirror's rate beside MLflow's own, and the exports of many metrics."""

from __future__ import annotations

import logging
import multiprocessing
import resource
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from sqlalchemy import create_engine, insert

from benchmarks.figures import Figure, seconds
from raymlops.ledger import Code, Ledger, schema
from raymlops.ledger.export import to_parquet, to_tensorboard
from raymlops.ledger.mirror import Mirror
from raymlops.storage import Store

NAMES = tuple(f"metric_{number}" for number in range(10))
NUM_RUNS = 20
START = datetime(2013, 1, 1, tzinfo=UTC)
_PAGE = 50_000


def figures(quick: bool) -> list[Figure]:
    """Metrics mirrored a second; seconds, size and memory of exports."""
    mirrored, exported = (5_000, 100_000) if quick else (50_000, 1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        return [*_mirror(Path(folder), mirrored), *_exports(Path(folder), exported)]


def _mirror(folder: Path, num_metrics: int) -> list[Figure]:
    warnings.filterwarnings("ignore", message="The ``noload`` loader strategy")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient

    with _filled(folder / "mirrored.db", num_metrics) as ledger:
        url = f"sqlite:///{folder / 'mlflow.db'}"
        with Mirror(ledger, Store(str(folder / "store")), url, artifacts=str(folder)) as mirror:
            MlflowClient(tracking_uri=url, registry_uri=url)  # its schema is made once
            rate = num_metrics / seconds(mirror.catch_up)
            look_ms = seconds(mirror.catch_up) * 1000
    alone = f"sqlite:///{folder / 'alone.db'}"
    client = MlflowClient(tracking_uri=alone, registry_uri=alone)
    run = client.create_run("0")
    one_by_one = min(num_metrics, 1_000)

    def log() -> None:
        for step in range(one_by_one):
            client.log_metric(run.info.run_id, "loss", step / 7, step=step)

    return [
        Figure(
            name="mirrored_metrics_per_s",
            unit="1/s",
            ours=rate,
            references={"mlflow log_metric": one_by_one / seconds(log)},
        ),
        Figure(name="look_without_news_ms", unit="ms", ours=look_ms, references={}),
    ]


def _exports(folder: Path, num_metrics: int) -> list[Figure]:
    with _filled(folder / "exported.db", num_metrics) as ledger:
        # A fresh process, whose peak of memory is that of the export alone.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            exporting = process.submit(_export, ledger.url, folder / "parquet")
            took_s, extra_mb = exporting.result()
        size_mb = (folder / "parquet" / "metrics.parquet").stat().st_size / 1e6
        few = [run.id for run in ledger.runs.list()[:2]]
        events_s = seconds(lambda: to_tensorboard(ledger, folder / "events", run_ids=few))
    return [
        Figure(name=f"parquet_{num_metrics}_metrics_s", unit="s", ours=took_s, references={}),
        Figure(name=f"parquet_{num_metrics}_metrics_mb", unit="MB", ours=size_mb, references={}),
        Figure(
            name=f"parquet_{num_metrics}_metrics_extra_mb", unit="MB", ours=extra_mb, references={}
        ),
        Figure(
            name="tensorboard_metrics_per_s",
            unit="1/s",
            ours=num_metrics / NUM_RUNS * len(few) / events_s,
            references={},
        ),
    ]


def _export(ledger_url: str, folder: Path) -> tuple[float, float]:
    """Seconds of a Parquet export, and MB of memory beyond what the process held before."""
    with Ledger(ledger_url) as ledger:
        before_bytes = psutil.Process().memory_info().rss
        took_s = seconds(lambda: to_parquet(ledger, folder))
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return took_s, (peak_bytes - before_bytes) / 1e6


def _filled(path: Path, num_metrics: int) -> Ledger:
    """A ledger whose runs log in turn, ten metrics a step."""
    ledger = Ledger(f"sqlite:///{path}")
    run_ids = [
        ledger.runs.start(
            kind="train",
            model="flights",
            params={"number": number},
            code=Code(commit="c" * 40, dirty_digest=None),
            config="{}",
            environment="",
            inputs={},
        ).id
        for number in range(NUM_RUNS)
    ]
    engine = create_engine(ledger.url)
    with engine.begin() as connection:
        for page in _pages(run_ids, num_metrics):
            connection.execute(insert(schema.metrics), page)
    engine.dispose()
    return ledger


def _pages(run_ids: list[str], num_metrics: int) -> Iterator[list[dict[str, object]]]:
    for first in range(0, num_metrics, _PAGE):
        yield [
            {
                "run_id": run_ids[(number // len(NAMES)) % NUM_RUNS],
                "name": NAMES[number % len(NAMES)],
                "step": number // (len(NAMES) * NUM_RUNS),
                "value": number / 7,
                "at": START + timedelta(milliseconds=number),
            }
            for number in range(first, min(first + _PAGE, num_metrics))
        ]
