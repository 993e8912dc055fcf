"""Requests over gRPC a second, of our server and of PyTriton, by the same load.

python -m benchmarks.serving_grpc [--quick] [--peers FOLDER]

The load is h2load, of Debian's nghttp2-client: connections with one request at a time, a row each.
It knows no gRPC, so every row is asked of both servers and compared before the load, and under the
load the bytes of all replies must be those of as many right ones. PyTriton runs as
`benchmarks.serving` runs it, from the virtual environment FOLDER/pytriton.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil

from benchmarks.figures import Figure, program, report
from benchmarks.serving.measure import HERE, Measured, cpu_s, family, free_port, running
from benchmarks.serving.places import KEY, MODEL
from benchmarks.serving.world import make_world, read_columns
from raymlops.models import PROBABILITY
from raymlops.serve.protocols.open_inference.grpc.messages import (
    SERVICE,
    request_class,
    response_class,
)

METHOD = f"/{SERVICE}/ModelInfer"
HEADERS = {"content-type": "application/grpc", "te": "trailers", "authorization": f"Bearer {KEY}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 s a run and 32 connections alone")
    parser.add_argument("--peers", type=Path, default=Path("peers"))
    given = parser.parse_args()
    seconds = 3 if given.quick else 8
    connections = (32,) if given.quick else (1, 32, 128)
    python = given.peers / "pytriton/bin/python"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_world(folder)
        with ours(folder) as (server, port):
            own = measure(server, port, folder, connections, seconds, wide=False)
        theirs: dict[int, Measured] = {}
        if python.exists():
            with pytriton(folder, python) as (server, port):
                theirs = measure(server, port, folder, connections, seconds, wide=True)
    report("serving_grpc", figures(own, theirs))


@contextlib.contextmanager
def ours(folder: Path) -> Iterator[tuple[psutil.Process, int]]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.serving.server"]
    with running([*command, "replica", str(folder), str(port)], folder) as server:
        yield server, port


@contextlib.contextmanager
def pytriton(folder: Path, python: Path) -> Iterator[tuple[psutil.Process, int]]:
    port = free_port()
    command = [str(python), str(HERE / "peers" / "pytriton_server.py"), str(port)]
    with running(command, folder) as server:
        yield server, port + 1


def measure(
    server: psutil.Process,
    port: int,
    folder: Path,
    connections: tuple[int, ...],
    seconds: int,
    *,
    wide: bool,
) -> dict[int, Measured]:
    """By number of connections; `wide` tensors are [rows, 1]; a wrong reply ends the process."""
    requests = _requests(wide=wide)
    sizes = _check(port, requests, json.loads((folder / "bodies.json").read_text())["answers"])
    body = folder / "request.bin"
    body.write_bytes(_framed(requests[0]))
    _load(port, body, 32, 1)
    found = {}
    for number in connections:
        before = cpu_s(server)
        told, micros = _load(port, body, number, seconds)
        spent_s = cpu_s(server) - before
        answered = int(_found(r"(\d+) succeeded", told))
        if len(micros) < answered or _found(r"\((\d+)\) data", told) != str(answered * sizes[0]):
            raise SystemExit(f"not {answered} replies of {sizes[0]} bytes: {told}")
        p50, p99 = np.quantile(micros, [0.5, 0.99]) / 1e3
        found[number] = Measured(
            per_s=answered / seconds,
            p50_ms=float(p50),
            p99_ms=float(p99),
            cpu_us=1e6 * spent_s / answered,
            rss_mib=sum(each.memory_info().rss for each in family(server)) / 2**20,
        )
    return found


def _requests(*, wide: bool) -> list[bytes]:
    """Each row as a ModelInferRequest with raw contents."""
    columns = read_columns()
    found = []
    for row in range(len(next(iter(columns.values())))):
        request = request_class("ModelInfer")(model_name=MODEL, id="0")
        for name, column in columns.items():
            request.inputs.add(name=name, datatype="FP64", shape=[1, 1] if wide else [1])
            request.raw_input_contents.append(column[row : row + 1].tobytes())
        found.append(request.SerializeToString())
    return found


def _check(port: int, requests: list[bytes], wanted: list[float]) -> list[int]:
    """The bytes of each reply, framed, once all were right."""
    sizes = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        _wait(channel)
        ask = channel.unary_unary(METHOD)
        for request, answer in zip(requests, wanted, strict=True):
            reply: bytes = ask(request, metadata=[("authorization", HEADERS["authorization"])])
            told: Any = response_class("ModelInfer").FromString(reply)
            names = [output.name for output in told.outputs]
            probability = np.frombuffer(
                told.raw_output_contents[names.index(PROBABILITY)], np.float32
            )
            if abs(float(probability[0]) - answer) > 1e-4:
                raise SystemExit(f"wrong: {told}, wanted {answer}")
            sizes.append(len(_framed(reply)))
    return sizes


def _wait(channel: grpc.Channel) -> None:
    live = channel.unary_unary(f"/{SERVICE}/ModelReady")
    request = request_class("ModelReady")(name=MODEL).SerializeToString()
    for _ in range(300):
        with contextlib.suppress(grpc.RpcError):
            reply = live(request, metadata=[("authorization", HEADERS["authorization"])])
            if response_class("ModelReady").FromString(reply).ready:
                return
        time.sleep(0.2)
    raise SystemExit("no server answers gRPC within 60 s")


def _framed(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def _load(port: int, body: Path, connections: int, seconds: int) -> tuple[str, list[int]]:
    """What h2load tells, and how many microseconds each request took."""
    log = body.with_name("requests.log")
    log.unlink(missing_ok=True)
    command = [
        program("h2load", of="nghttp2-client"),
        "-t1",
        f"-c{connections}",
        "-m1",
        f"-D{seconds}",
        f"-d{body}",
    ]
    command += [f"--log-file={log}", *(f"-H{name}: {text}" for name, text in HEADERS.items())]
    url = f"http://127.0.0.1:{port}{METHOD}"
    done = subprocess.run([*command, url], capture_output=True, text=True, check=True)
    return done.stdout, [int(line.split("\t")[2]) for line in log.read_text().splitlines()]


def _found(pattern: str, told: str) -> str:
    found = re.search(pattern, told)
    if found is None:
        raise SystemExit(f"h2load does not tell {pattern}: {told}")
    return found[1]


def figures(own: dict[int, Measured], theirs: dict[int, Measured]) -> list[Figure]:
    found = []
    for number, measured in own.items():
        peer = theirs.get(number)
        for what, unit in (("per_s", "1/s"), ("p50_ms", "ms"), ("p99_ms", "ms"), ("cpu_us", "us")):
            mine = getattr(measured, what)
            central = what == "per_s" and peer is not None
            found.append(
                Figure(
                    name=f"grpc_{number}_connections_{what}",
                    unit=unit,
                    ours=mine,
                    references={} if peer is None else {"pytriton": getattr(peer, what)},
                    goal=">= PyTriton's" if central else None,
                    met=mine >= peer.per_s if central and peer is not None else None,
                )
            )
    return found


if __name__ == "__main__":
    main()
