"""Requests a second, latency, CPU and memory of our server and of others, by the same load.

python -m benchmarks.serving [--quick] [--peers FOLDER]

The load is wrk with a script that sends every row in turn and checks every reply. A peer is
measured when FOLDER holds a virtual environment of its name (mosec, fastapi, litserve).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.figures import Figure, report
from benchmarks.serving.places import KEY, MODEL
from benchmarks.serving.world import make_world

HERE = Path(__file__).parent
PEERS = ("mosec", "litserve", "fastapi")


@dataclass(frozen=True, kw_only=True)
class Measured:
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    rss_mib: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 s a run and 32 connections alone")
    parser.add_argument("--peers", type=Path, default=Path("peers"))
    given = parser.parse_args()
    seconds = 3 if given.quick else 8
    connections = (32,) if given.quick else (1, 32, 128)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_world(folder)
        results = {"raymlops": measure_ours(folder, connections, seconds)}
        for peer in PEERS:
            if (given.peers / peer / "bin/python").exists():
                results[peer] = measure_peer(folder, given.peers, peer, connections, seconds)
    report("serving", figures(results, connections))


def measure_ours(folder: Path, connections: tuple[int, ...], seconds: int) -> dict[int, Measured]:
    port = _free_port()
    command = [sys.executable, "-m", "benchmarks.serving.server"]
    with (
        _running([*command, "door", str(folder), str(port)], folder),
        _running([*command, "replica", str(folder)], folder) as replica,
    ):
        url = f"http://127.0.0.1:{port}/v2/models/{MODEL}/infer"
        return _measure(replica, url, folder, connections, seconds)


def measure_peer(
    folder: Path, peers: Path, name: str, connections: tuple[int, ...], seconds: int
) -> dict[int, Measured]:
    port = _free_port()
    command = [str(peers / name / "bin/python"), str(HERE / "peers" / f"{name}_server.py")]
    command += ["--port", str(port), "--address", "127.0.0.1"] if name == "mosec" else [str(port)]
    with _running(command, folder) as server:
        return _measure(server, f"http://127.0.0.1:{port}/inference", folder, connections, seconds)


def figures(results: dict[str, dict[int, Measured]], connections: tuple[int, ...]) -> list[Figure]:
    found: list[Figure] = []
    ours = results["raymlops"]
    for number in connections:
        others = {name: each[number] for name, each in results.items() if name != "raymlops"}
        mosec = others.get("mosec")
        rate, at_most = ours[number].per_s, ours[number].p99_ms
        central = number == 32 and mosec is not None
        found += [
            Figure(
                name=f"requests_{number}_connections_per_s",
                unit="1/s",
                ours=rate,
                references={name: each.per_s for name, each in others.items()},
                goal="1.2 x mosec" if central else None,
                met=rate >= 1.2 * mosec.per_s if central and mosec else None,
            ),
            Figure(
                name=f"p99_{number}_connections_ms",
                unit="ms",
                ours=at_most,
                references={name: each.p99_ms for name, each in others.items()},
                goal="<= mosec" if central else None,
                met=at_most <= mosec.p99_ms if central and mosec else None,
            ),
            Figure(
                name=f"p50_{number}_connections_ms",
                unit="ms",
                ours=ours[number].p50_ms,
                references={name: each.p50_ms for name, each in others.items()},
            ),
            Figure(
                name=f"cpu_{number}_connections_us",
                unit="us a request",
                ours=ours[number].cpu_us,
                references={name: each.cpu_us for name, each in others.items()},
                goal="<= 30" if number == 32 else None,
                met=ours[number].cpu_us <= 30 if number == 32 else None,
            ),
        ]
    memory = {name: each[connections[-1]].rss_mib for name, each in results.items()}
    held = memory.pop("raymlops")
    found.append(
        Figure(
            name="memory_mib", unit="MiB", ours=held, references=memory, goal="< 350",
            met=held < 350,
        )
    )  # fmt: skip
    return found


def _measure(
    server: psutil.Process, url: str, folder: Path, connections: tuple[int, ...], seconds: int
) -> dict[int, Measured]:
    _wait_ready(url, folder)
    _load(url, folder, 32, 1)
    found = {}
    for number in connections:
        before = _cpu_s(server)
        result = _load(url, folder, number, seconds)
        cpu_s = _cpu_s(server) - before
        if result["wrong"] or result["errors"] or not result["right"]:
            raise SystemExit(f"{url} answered wrongly: {result}")
        found[number] = Measured(
            per_s=result["right"] / result["duration_s"],
            p50_ms=result["p50_ms"],
            p99_ms=result["p99_ms"],
            cpu_us=1e6 * cpu_s / result["right"],
            rss_mib=sum(each.memory_info().rss for each in _family(server)) / 2**20,
        )
    return found


def _load(url: str, folder: Path, connections: int, seconds: int) -> dict[str, float]:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(HERE / "load.lua"), url]
    environment = {**os.environ, "LOAD_BODIES": str(folder / "bodies.txt"), "LOAD_KEY": KEY}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    result: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    return result


@contextlib.contextmanager
def _running(command: list[str], folder: Path) -> Iterator[psutil.Process]:
    environment = {**os.environ, "SERVING_FOLDER": str(folder), "OMP_NUM_THREADS": "1"}
    with (folder / "server.log").open("wb") as log:  # some peers write a line a request
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    family = psutil.Process(process.pid)
    try:
        yield family
    finally:
        started = _family(family)
        for each in started[::-1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.terminate()
        for each in psutil.wait_procs(started, timeout=10)[1]:  # LitServe's worker stays
            each.kill()


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _cpu_s(process: psutil.Process) -> float:
    """By the processes' own clocks: /proc counts whole ticks, and charges them to who runs then."""
    return sum(time.clock_gettime((~each.pid << 3) | 2) for each in _family(process))


def _wait_ready(url: str, folder: Path) -> None:
    body = json.loads((folder / "bodies.json").read_text())["bodies"][0].encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    for _ in range(300):
        request = urllib.request.Request(url, body, headers)
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=40):
            return
        time.sleep(0.2)
    raise SystemExit(f"{url} does not answer within 60 s")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
