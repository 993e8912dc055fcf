"""How the cost of serving grows with rows and with replicas, and what a request is made of.

python -m benchmarks.serving_growth [--quick]

The model, the load and the checks are those of benchmarks.serving. The parts of a request are
timed one after the other in a loop of their own, a batch of 32 at a time; `together` is the whole
of it in one process, without sockets, and `served` with sockets, the kernel's work included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from benchmarks.figures import Figure, report
from benchmarks.serving.measure import measure_ours
from benchmarks.serving.places import KEY, MODEL, ledger_url, store_uri
from benchmarks.serving.world import make_world
from raymlops.ledger import Ledger
from raymlops.models import Bundle
from raymlops.serve import BatchPolicy, HttpLimits, TrafficTable
from raymlops.serve.access import ApiKey, Gate, digest_of
from raymlops.serve.batching.outputs import concatenated
from raymlops.serve.batching.shares import Batch, Share
from raymlops.serve.engines import BundleRunner, EngineSettings
from raymlops.serve.form import Form
from raymlops.serve.http import HttpServer
from raymlops.serve.http.heads import Heads
from raymlops.serve.http.machine import Machine
from raymlops.serve.inference import Inference, Result
from raymlops.serve.protocols.open_inference.ask import parse_infer
from raymlops.serve.replica.app import model_handler
from raymlops.serve.versions.arms import Arms
from raymlops.serve.versions.loaded import bundle_loader
from raymlops.serve.web import Request
from raymlops.serve.witnesses.base import Witnesses
from raymlops.serve.witnesses.metrics import Metrics
from raymlops.storage import Store

BATCH = 32
MAX_WAITING_ROWS = BatchPolicy().max_queue_rows // 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 s a run, fewer sizes")
    quick = parser.parse_args().quick
    seconds = 2 if quick else 6
    figures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_world(folder)
        figures += parts(folder)
        for num_replicas in (1, 2) if quick else (1, 2, 4):
            served = measure_ours(folder, (32,), seconds, num_replicas=num_replicas)[32]
            figures += [
                _figure(f"{num_replicas}_replicas_requests_per_s", "1/s", served.per_s),
                _figure(f"{num_replicas}_replicas_cpu_us", "us a request", served.cpu_us),
                _figure(f"{num_replicas}_replicas_p99_ms", "ms", served.p99_ms),
                _figure(f"{num_replicas}_replicas_memory_mib", "MiB", served.rss_mib),
            ]
    for num_rows in (1, 64) if quick else (1, 8, 64, 512, 4096, 16384):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_world(folder, num_rows=num_rows)
            size = len(json.loads((folder / "bodies.json").read_text())["bodies"][0])
            clients = min(8, MAX_WAITING_ROWS // num_rows)
            served = measure_ours(folder, (clients,), seconds)[clients]
            figures += [
                _figure(f"{num_rows}_rows_bytes", "bytes a request", size),
                _figure(f"{num_rows}_rows_requests_per_s", "1/s", served.per_s),
                _figure(f"{num_rows}_rows_cpu_us_a_row", "us a row", served.cpu_us / num_rows),
                _figure(f"{num_rows}_rows_p99_ms", "ms", served.p99_ms),
            ]
    report("serving_growth", figures)


def parts(folder: Path) -> list[Figure]:
    """Microseconds of CPU a request, by what is done for it."""
    with Ledger(ledger_url(folder)) as ledger:
        bundle = bundle_loader(MODEL, ledger, Store(store_uri(folder)))("1.0.0")
    lines = (folder / "bodies.txt").read_text().splitlines()[::2]
    requests = [_request(body.encode()) for body in lines]
    form, run = Form(bundle.signature), BundleRunner(bundle, EngineSettings())
    bodies = [line.encode() for line in lines[:BATCH]]
    asks = [parse_infer(body, likely=form) for body in bodies]
    columns = [ask.columns(form) for ask in asks]
    joined = concatenated(columns)
    outputs = run(joined)
    heads = Heads(_ignore)
    for each in requests[:BATCH] * 3:
        machine = Machine(_ignore, _ignore, _ignore, heads=heads, **_of_server())
        machine.feed(each)
    gate = Gate(MODEL, [ApiKey(name="b", digest=digest_of(KEY), models=(MODEL,))])
    ticket = gate.ticket(Request("POST", "/v2", headers={"authorization": f"Bearer {KEY}"}))

    def encode() -> None:
        batch = Batch(joined, outputs)
        for row, ask in enumerate(asks):
            ask.encode(Result(MODEL, "1.0.0", "champion", form, Share(batch, row, row + 1)))

    steps: dict[str, Callable[[], object]] = {
        "head": lambda: [heads.find(each) for each in requests[:BATCH]],
        "key": lambda: [ticket() for _ in range(BATCH)],
        "parse_and_check": lambda: [
            parse_infer(each, likely=form).columns(form) for each in bodies
        ],
        "join": lambda: concatenated(columns),
        "engine": lambda: run(joined),
        "encode": encode,
    }
    found = {name: _us(step) / BATCH for name, step in steps.items()}
    found["together"] = asyncio.Runner(loop_factory=uvloop.new_event_loop).run(
        _together(bundle, requests)
    )
    return [_figure(f"part_{name}_us", "us a request", us) for name, us in found.items()]


async def _together(bundle: Bundle, requests: list[bytes]) -> float:
    """From the bytes of requests to those of their answers, 32 in flight, metrics on."""
    arms = Arms(lambda _: bundle, BatchPolicy(max_rows=BATCH))
    await arms.apply(TrafficTable.champion(MODEL, "1.0.0"))
    witnesses = Witnesses([Metrics(MODEL, "r", None).note])
    inference = Inference(MODEL, arms, witnesses.note)
    server = HttpServer(model_handler(inference, max_body_bytes=1 << 20), HttpLimits())
    answered, done = 0, asyncio.Event()

    def write(_: bytes) -> None:
        nonlocal answered
        answered += 1
        if answered % BATCH == 0:
            done.set()

    machines = [
        Machine(server.handler, write, lambda: None, heads=server.heads, **_of_server())
        for _ in range(BATCH)
    ]
    times_us = []
    for _ in range(7):
        started = time.thread_time()
        for batch in range(200):
            done.clear()
            for number, machine in enumerate(machines):
                machine.feed(requests[(batch * BATCH + number) % len(requests)])
            await done.wait()
        times_us.append(1e6 * (time.thread_time() - started) / (200 * BATCH))
    await arms.close()
    return sorted(times_us)[len(times_us) // 2]


def _ignore(*_: object) -> None:
    pass


def _of_server() -> dict[str, object]:
    server = HttpServer(lambda *_: None, HttpLimits())
    return {"encoder": server.encoder, "limits": server.limits}


def _request(body: bytes) -> bytes:
    head = (
        f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _us(step: Callable[[], object], repeats: int = 300) -> float:
    """The median of the step's CPU time."""
    times = []
    for _ in range(repeats):
        started = time.thread_time()
        step()
        times.append(time.thread_time() - started)
    return 1e6 * sorted(times)[repeats // 2]


def _figure(name: str, unit: str, value: float) -> Figure:
    return Figure(name=name, unit=unit, ours=value, references={})


if __name__ == "__main__":
    main()
