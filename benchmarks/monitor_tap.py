"""What the monitor costs a server: the share of its CPU that goes into the tap.

The server is the one of a replica, which counts metrics, its clients a process of their own; CPU is
that of the server's process, of all its threads, until everything was binned, packed and handed to
the sink. Rounds with the tap, without it, and without it again as the control take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import orjson
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from benchmarks.figures import Figure, report
from raymlops.data import Columns, Feature, Profile, TableSchema
from raymlops.models import Bundle, Postprocessing, Preprocessing, Signature, export
from raymlops.serve import BatchPolicy, HttpLimits, TrafficTable
from raymlops.serve.http import HttpServer
from raymlops.serve.inference import Inference
from raymlops.serve.process.garbage import spare_what_is_loaded
from raymlops.serve.replica.app import model_handler
from raymlops.serve.tap.recorder import Recorder
from raymlops.serve.versions.arms import Arms
from raymlops.serve.witnesses.base import Witness, Witnesses
from raymlops.serve.witnesses.metrics import Metrics

MODEL = "tumours"
NUM_FEATURES = 10
NUM_CONNECTIONS = 16
ROUND_REQUESTS = 2048
"""As many as the tap makes a message of, and few, so that a round and the one it is compared with
see the same machine."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    quick = parser.parse_args().quick
    bundle, columns = trained()
    figures = []
    for num_rows in (1, 20):
        off, control, on = asyncio.run(
            cpu_a_request(bundle, columns, num_rows, 50 if quick else 200)
        )
        growth, noise = paired_growth(off, on), paired_growth(off, control)
        figures += [
            Figure(
                name=f"tap_{num_rows}_row_request_cpu_us",
                unit="us",
                ours=statistics.median(on),
                references={"without the tap": statistics.median(off)},
            ),
            Figure(
                name=f"tap_{num_rows}_row_request_cpu_growth_percent",
                unit="%",
                ours=growth,
                references={"control": noise},
                goal="<= 2",
                met=growth <= 2.0,
            ),
        ]
    report("monitor_tap", figures)


def paired_growth(before: Sequence[float], after: Sequence[float]) -> float:
    """Median percent by which the second of each pair exceeds the first."""
    pairs = zip(before, after, strict=True)
    return statistics.median(100.0 * (b / a - 1.0) for a, b in pairs)


def trained() -> tuple[Bundle, Columns]:
    """A logistic regression on ten numbers of tumours, with its rows."""
    data = load_breast_cancer()
    names = [name.replace(" ", "_") for name in data.feature_names[:NUM_FEATURES]]
    columns: Columns = {name: data.data[:, i] for i, name in enumerate(names)}
    features = tuple(Feature(name=name, kind="number") for name in names)
    preprocessing = Preprocessing.fit(features, columns)
    matrix = preprocessing.transform(columns)
    fitted = LogisticRegression().fit(matrix, data.target)
    module = torch.nn.Sequential(torch.nn.Linear(matrix.shape[1], 1), torch.nn.Flatten(0))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor(fitted.coef_))
        module[0].bias.copy_(torch.tensor(fitted.intercept_))
    schema = TableSchema(dataset=MODEL, target="benign", event_time="at", features=features)
    postprocessing = Postprocessing(label="benign")
    scores = fitted.predict_proba(matrix)[:, 1].astype(np.float32)
    bundle = Bundle.of(
        signature=Signature.of(schema, postprocessing.outputs),
        preprocessing=preprocessing,
        model=export(module.eval(), matrix[:16]),
        postprocessing=postprocessing,
        profile=Profile.of(features, columns, scores, label_rate=0.63, log_loss=0.2),
    )
    return bundle, columns


async def cpu_a_request(
    bundle: Bundle, columns: Columns, num_rows: int, rounds: int
) -> tuple[list[float], list[float], list[float]]:
    """Microseconds of CPU a request by round: without the tap, as the control, and with it."""
    arms = Arms(lambda _: bundle, BatchPolicy())
    await arms.apply(TrafficTable.champion(MODEL, "1.0.0"))
    sent: list[int] = []

    async def sink(*messages: bytes) -> None:
        sent.extend(map(len, messages))

    spare_what_is_loaded()
    recorder = Recorder(model=MODEL, replica="r", sink=sink, on_drop=_refuse_drop)
    running = asyncio.create_task(recorder.run())
    metrics = Metrics(MODEL, "r", None)
    witnesses: dict[str, list[Witness]] = {
        "off": [metrics.note],
        "control": [metrics.note],
        "on": [metrics.note, recorder.note],
    }
    servers = {name: _server(arms, Witnesses(each)) for name, each in witnesses.items()}
    with clients(_request(columns, num_rows), servers) as ask:
        found: dict[str, list[float]] = {name: [] for name in servers}
        for number in range(rounds + 1):
            for name in servers if number % 2 else reversed(servers):
                cpu_us = await ask(name, recorder)
                if number:  # the first round is to warm up
                    found[name].append(cpu_us)
    recorder.close()
    await running
    await arms.close()
    assert sent
    return found["off"], found["control"], found["on"]


def _refuse_drop(num_rows: int) -> None:
    raise AssertionError(f"{num_rows} rows were dropped")


def _server(arms: Arms, witnesses: Witnesses) -> HttpServer:
    limits = HttpLimits()
    inference = Inference(MODEL, arms, witnesses.note)
    return HttpServer(model_handler(inference, max_body_bytes=limits.max_body_bytes), limits)


def _request(columns: Columns, num_rows: int) -> bytes:
    inputs = [
        {
            "name": name,
            "shape": [num_rows],
            "datatype": "FP64",
            "data": column[:num_rows].tolist(),
        }
        for name, column in columns.items()
    ]
    body = orjson.dumps({"inputs": inputs})
    head = (
        f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@contextmanager
def clients(
    request: bytes, servers: dict[str, HttpServer]
) -> Iterator[Callable[[str, Recorder], Awaitable[float]]]:
    """Asks a server from another process; what comes back is its CPU a request."""
    pairs = {name: [socket.socketpair() for _ in range(NUM_CONNECTIONS)] for name in servers}
    orders, reports = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _client(
            request,
            {name: [far for _, far in each] for name, each in pairs.items()},
            list(servers),
            orders[0],
            reports[1],
        )

    async def ask(name: str, recorder: Recorder) -> float:
        server = servers[name]
        if not server.connections:
            server.start()
            for near, far in pairs[name]:
                far.close()
                await server.adopt(near)
        started = time.process_time()
        os.write(orders[1], bytes([list(servers).index(name)]))
        await asyncio.to_thread(os.read, reports[0], 1)
        while recorder.pending_rows:  # noqa: ASYNC110 - the recorder has no event for it
            await asyncio.sleep(0.05)
        return (time.process_time() - started) / ROUND_REQUESTS * 1e6

    try:
        yield ask
    finally:
        os.write(orders[1], b"\xff")
        os.waitpid(pid, 0)


def _client(
    request: bytes,
    connections: dict[str, list[socket.socket]],
    names: list[str],
    orders: int,
    done: int,
) -> None:
    """In the client's process: at each order its requests, one in flight a connection."""
    while (order := os.read(orders, 1)) != b"\xff":
        far = connections[names[order[0]]]
        for _ in range(ROUND_REQUESTS // len(far)):
            for connection in far:
                connection.sendall(request)
            for connection in far:
                reply = connection.recv(65536)
                assert reply.startswith(b"HTTP/1.1 200"), reply
        os.write(done, b"x")
    os._exit(0)


if __name__ == "__main__":
    main()
