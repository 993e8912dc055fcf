"""Many models in few places: 50 models, 5 places, Zipf traffic, beside Ray's serve.multiplexed.

Both load the same files of about 4 MB in a thread, in one process, for clients that wait for each
answer; the order of what is asked is the same. Ray's multiplexer is used as a replica uses it, with
nobody to report to. Every answer is compared with the model's own.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from benchmarks.batching import network
from benchmarks.figures import Figure, report
from raymlops.models import OnnxScorer
from raymlops.serve import ModelCache, ModelCachePolicy

NUM_MODELS, NUM_PLACES, NUM_CLIENTS = 50, 5, 16
ROWS = load_digits().data[:1].astype(np.float32)

Ask = Callable[[str], Awaitable[NDArray[Any]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer requests")
    number = 1_000 if parser.parse_args().quick else 10_000
    with tempfile.TemporaryDirectory(prefix="raymlops-models-") as name:
        folder = Path(name)
        for model in range(NUM_MODELS):
            (folder / str(model)).write_bytes(network(64, width=960, seed=model))
        report("model_cache", compare(folder, number))


def compare(folder: Path, number: int) -> list[Figure]:
    weights = 1 / np.arange(1, NUM_MODELS + 1)
    asked = np.random.default_rng(0).choice(NUM_MODELS, number, p=weights / weights.sum())
    answers = {str(model): _scorer(folder / str(model))(ROWS) for model in range(NUM_MODELS)}
    order = [str(model) for model in asked]
    mine, theirs = [], []
    for _ in range(3):
        mine.append(asyncio.run(_measure(ours, folder, order, answers)))
        theirs.append(asyncio.run(_measure(multiplexed, folder, order, answers)))
    units = ("requests/s", "ms", "ms", "loads a request")
    names = ("requests_per_s", "p50_ms", "p99_ms", "loads_ratio")
    figures = []
    for index, (name, unit) in enumerate(zip(names, units, strict=True)):
        own, other = (statistics.median(run[index] for run in runs) for runs in (mine, theirs))
        is_rate = name.endswith("_per_s")
        figures.append(
            Figure(
                name=f"model_cache_{name}",
                unit=unit,
                ours=own,
                references={"serve.multiplexed": other},
                goal="> serve.multiplexed" if is_rate else "< serve.multiplexed",
                met=own > other if is_rate else own < other,
            )
        )
    return figures


def ours(load: Callable[[str], OnnxScorer]) -> Ask:
    models = ModelCache(load, ModelCachePolicy(max_models=NUM_PLACES))

    async def ask(name: str) -> NDArray[Any]:
        async with models.use(name) as score:
            return score(ROWS)

    return ask


def multiplexed(load: Callable[[str], OnnxScorer]) -> Ask:
    from ray.serve import multiplex

    async def load_model(name: str) -> OnnxScorer:
        return await asyncio.to_thread(load, name)

    replica = SimpleNamespace(app_name="models", deployment="models", replica_id="1")
    with patch.object(multiplex, "_get_internal_replica_context", lambda: replica):
        models = multiplex._ModelMultiplexWrapper(load_model, None, NUM_PLACES)

    async def ask(name: str) -> NDArray[Any]:
        score = await models.load_model(name)
        return score(ROWS)  # type: ignore[no-any-return]

    return ask


async def _measure(
    make: Callable[[Callable[[str], OnnxScorer]], Ask],
    folder: Path,
    order: list[str],
    answers: dict[str, NDArray[Any]],
) -> tuple[float, float, float, float]:
    """Requests a second, latencies in the middle and at 99 %, and loads a request."""
    loads, latencies, asked = list[str](), list[float](), iter(order)

    def load(name: str) -> OnnxScorer:
        loads.append(name)
        return _scorer(folder / name)

    async def client() -> None:
        for name in asked:
            started = time.perf_counter()
            answer = await ask(name)
            latencies.append(time.perf_counter() - started)
            assert np.abs(answer - answers[name]).max() < 1e-4
            await asyncio.sleep(0)

    with patch("ray.serve.multiplex._get_global_client", MagicMock()):
        ask = make(load)
        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(NUM_CLIENTS)))
        seconds = time.perf_counter() - started
    p50, p99 = np.quantile(latencies, [0.5, 0.99]) * 1e3
    return len(order) / seconds, float(p50), float(p99), len(loads) / len(order)


def _scorer(path: Path) -> OnnxScorer:
    return OnnxScorer(path.read_bytes())


if __name__ == "__main__":
    main()
