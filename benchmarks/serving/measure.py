"""A server under load: requests a second, latency, and the CPU and memory it took."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.figures import program
from benchmarks.serving.places import KEY, MODEL

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Measured:
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    rss_mib: float


def measure_ours(
    folder: Path, connections: tuple[int, ...], seconds: int, *, num_replicas: int = 1
) -> dict[int, Measured]:
    """By number of connections; CPU and memory are those of all replicas."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.serving.server"]
    with contextlib.ExitStack() as started:
        started.enter_context(running([*command, "door", str(folder), str(port)], folder))
        replicas = [
            started.enter_context(running([*command, "replica", str(folder)], folder))
            for _ in range(num_replicas)
        ]
        url = f"http://127.0.0.1:{port}/v2/models/{MODEL}/infer"
        return measure(replicas, url, folder, connections, seconds)


def measure(
    servers: Sequence[psutil.Process],
    url: str,
    folder: Path,
    connections: tuple[int, ...],
    seconds: int,
    *,
    bodies: str = "bodies.txt",
) -> dict[int, Measured]:
    """Raises SystemExit when a reply to one of `bodies` is wrong or does not come."""
    _wait_ready(url, folder / bodies)
    _load(url, folder / bodies, 32, 1)
    found = {}
    for number in connections:
        before = sum(map(cpu_s, servers))
        result = _load(url, folder / bodies, number, seconds)
        spent_s = sum(map(cpu_s, servers)) - before
        if result["wrong"] or result["errors"] or not result["right"]:
            raise SystemExit(f"{url} answered wrongly: {result}")
        found[number] = Measured(
            per_s=result["right"] / result["duration_s"],
            p50_ms=result["p50_ms"],
            p99_ms=result["p99_ms"],
            cpu_us=1e6 * spent_s / result["right"],
            rss_mib=sum(each.memory_info().rss for server in servers for each in family(server))
            / 2**20,
        )
    return found


def _load(url: str, bodies: Path, connections: int, seconds: int) -> dict[str, float]:
    command = [program("wrk", of="wrk"), "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["-s", str(HERE / "load.lua"), url]
    environment = {**os.environ, "LOAD_BODIES": str(bodies), "LOAD_KEY": KEY}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    result: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    return result


@contextlib.contextmanager
def running(command: list[str], folder: Path) -> Iterator[psutil.Process]:
    environment = {**os.environ, "SERVING_FOLDER": str(folder), "OMP_NUM_THREADS": "1"}
    with (folder / "server.log").open("wb") as log:  # some peers write a line a request
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    server = psutil.Process(process.pid)
    try:
        yield server
    finally:
        started = family(server)
        for each in started[::-1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.terminate()
        for each in psutil.wait_procs(started, timeout=10)[1]:  # LitServe's worker stays
            each.kill()


def family(process: psutil.Process) -> list[psutil.Process]:
    """It and all that it started."""
    return [process, *process.children(recursive=True)]


def cpu_s(process: psutil.Process) -> float:
    """By the processes' own clocks: /proc counts whole ticks, and charges them to who runs then."""
    return sum(time.clock_gettime((~each.pid << 3) | 2) for each in family(process))


def _wait_ready(url: str, bodies: Path) -> None:
    body = bodies.read_text().partition("\n")[0].encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    for _ in range(300):
        request = urllib.request.Request(url, body, headers)
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=40):
            return
        time.sleep(0.2)
    raise SystemExit(f"{url} does not answer within 60 s")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
