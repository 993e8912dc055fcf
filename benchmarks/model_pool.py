"""50 models deployed as a pool that holds 5, asked as Zipf has it, beside serve.multiplexed.

python -m benchmarks.model_pool [--quick]

Both run on one Ray, one replica each, and load the same bundles from the same store when they are
asked for. Clients know an address of HTTP, that of the door here and that of Serve's proxy there;
they ask the same models in the same order, a row a request, and every answer is compared with the
model's own. The pool validates, counts and follows 50 traffic tables as well; the other parses,
predicts and answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.figures import Figure, report
from benchmarks.serving.places import ledger_url, store_uri
from benchmarks.serving.world import make_bundle, read_columns, register
from raymlops.cluster import ClusterSettings, connect
from raymlops.cluster.address import free_port
from raymlops.ledger import Ledger, Version
from raymlops.models import PROBABILITY, Bundle
from raymlops.serve import ModelCachePolicy, ServeSettings, deploy_pool, standing
from raymlops.storage import Store

NUM_MODELS, NUM_PLACES, NUM_CLIENTS, NUM_BUNDLES = 50, 5, 16, 5
MODELS = [f"wines-{number}" for number in range(NUM_MODELS)]
MULTIPLEXED = "multiplexed"

Asked = tuple[str, str, float]
"""A model, the body it is asked with, and its answer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer requests")
    number = 1_000 if parser.parse_args().quick else 5_000
    with tempfile.TemporaryDirectory(prefix="raymlops-pool-") as name:
        folder = Path(name)
        asked = make_models(folder, number)
        with connect(ClusterSettings(), home=folder):
            report("model_pool", compare(folder, asked))


def make_models(folder: Path, number: int) -> list[Asked]:
    """Registers the models; what is asked of them, in its order."""
    bundles = [make_bundle(seed=seed) for seed in range(NUM_BUNDLES)]
    columns = read_columns()
    answers = [bundle.predict(columns)[PROBABILITY].tolist() for bundle in bundles]
    for index, model in enumerate(MODELS):
        register(folder, model, bundles[index % NUM_BUNDLES])
    generator = np.random.default_rng(0)
    weights = 1 / np.arange(1, NUM_MODELS + 1)
    models = generator.choice(NUM_MODELS, number, p=weights / weights.sum())
    rows = generator.integers(len(answers[0]), size=number)
    return [
        (MODELS[model], _body(columns, row), answers[model % NUM_BUNDLES][row])
        for model, row in zip(models.tolist(), rows.tolist(), strict=True)
    ]


def compare(folder: Path, asked: list[Asked]) -> list[Figure]:
    where = {"ledger_url": ledger_url(folder), "store_uri": store_uri(folder)}
    settings = ServeSettings(port=0, num_cpus=0, pool=ModelCachePolicy(max_models=NUM_PLACES))
    proxy_port = free_port("127.0.0.1")
    _run_multiplexed(where, proxy_port)
    pool = deploy_pool("wines", MODELS, **where, settings=settings)
    runs: dict[str, list[tuple[float, float, float, float]]] = {"ours": [], "theirs": []}
    for _ in range(3):
        before = _num_loads()
        measured = measure(pool, asked, "/v2/models/{}/infer")
        runs["ours"].append((*measured, (_num_loads() - before) / len(asked)))
        proxy = f"http://127.0.0.1:{proxy_port}"
        before = _ask_loads(proxy)
        measured = measure(proxy, asked, f"/{MULTIPLEXED}")
        runs["theirs"].append((*measured, (_ask_loads(proxy) - before) / len(asked)))
    units = ("requests/s", "ms", "ms", "loads a request")
    names = ("requests_per_s", "p50_ms", "p99_ms", "loads_ratio")
    figures = []
    for index, (name, unit) in enumerate(zip(names, units, strict=True)):
        own, other = (
            statistics.median(run[index] for run in runs[who]) for who in ("ours", "theirs")
        )
        is_rate = name.endswith("_per_s")
        figures.append(
            Figure(
                name=f"model_pool_{name}",
                unit=unit,
                ours=own,
                references={"serve.multiplexed": other},
                goal="> serve.multiplexed" if is_rate else "< serve.multiplexed",
                met=own > other if is_rate else own < other,
            )
        )
    memory = psutil.Process(standing()[0]["replicas"][0]["pid"]).memory_info().rss / 2**20
    figures.append(Figure(name="model_pool_replica_memory", unit="MiB", ours=memory, references={}))
    return figures


def measure(url: str, asked: list[Asked], path: str) -> tuple[float, float, float]:
    """Requests a second, and milliseconds in the middle and at 99 %."""
    waiting, lock, latencies = iter(asked), threading.Lock(), list[float]()

    def take() -> Iterator[Asked]:
        while True:
            with lock:
                found = next(waiting, None)
            if found is None:
                return
            yield found

    def client() -> None:
        connection = HTTPConnection(url.removeprefix("http://"), timeout=120)
        for model, body, wanted in take():
            headers = {"content-type": "application/json", "serve_multiplexed_model_id": model}
            started = time.perf_counter()
            connection.request("POST", path.format(model), body, headers)
            response = connection.getresponse()
            told = json.loads(response.read())
            latencies.append(time.perf_counter() - started)
            answer = told["outputs"][0]["data"][0]
            if response.status != 200 or abs(answer - wanted) > 1e-4:
                raise SystemExit(f"{model}: {response.status} {told}, wanted {wanted}")
        connection.close()

    started = time.perf_counter()
    with ThreadPoolExecutor(NUM_CLIENTS) as clients:
        for each in [clients.submit(client) for _ in range(NUM_CLIENTS)]:
            each.result()
    seconds = time.perf_counter() - started
    p50, p99 = np.quantile(latencies, [0.5, 0.99]) * 1e3
    return len(asked) / seconds, float(p50), float(p99)


def _body(columns: dict[str, Any], row: int) -> str:
    inputs = [
        {"name": name, "shape": [1], "datatype": "FP64", "data": [column[row]]}
        for name, column in columns.items()
    ]
    return json.dumps({"inputs": inputs}, separators=(",", ":"))


def _num_loads() -> int:
    time.sleep(1.5)  # replicas tell of themselves once a second
    return int(standing()[0]["replicas"][0]["loads"])


def _ask_loads(url: str) -> int:
    connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
    connection.request("GET", f"/{MULTIPLEXED}")
    told = json.loads(connection.getresponse().read())
    connection.close()
    return int(told["loads"])


def _run_multiplexed(where: dict[str, str], port: int) -> None:
    from ray import serve
    from starlette.requests import Request

    serve.start(http_options={"host": "127.0.0.1", "port": port})

    class Multiplexed:
        def __init__(self, ledger_url: str, store_uri: str) -> None:
            self._ledger, self._store = Ledger(ledger_url), Store(store_uri)
            self._num_loads = 0

        @serve.multiplexed(max_num_models_per_replica=NUM_PLACES)
        async def model(self, name: str) -> Bundle:
            self._num_loads += 1
            return await asyncio.to_thread(self._load, name)

        def _load(self, name: str) -> Bundle:
            version = self._ledger.registry.get(name, Version.parse("1.0.0"))
            return Bundle.of_version(self._store, version)

        async def __call__(self, request: Request) -> Any:
            if request.method == "GET":
                return {"loads": self._num_loads}
            bundle = await self.model(serve.get_multiplexed_model_id())
            asked = json.loads(await request.body())
            columns = {each["name"]: np.array(each["data"]) for each in asked["inputs"]}
            outputs = bundle.predict(columns)
            return {
                "outputs": [{"name": PROBABILITY, "data": outputs[PROBABILITY].tolist()}],
            }

    deployment = serve.deployment(
        Multiplexed, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0}
    )
    serve.run(deployment.bind(**where), name=MULTIPLEXED, route_prefix=f"/{MULTIPLEXED}")


if __name__ == "__main__":
    main()
