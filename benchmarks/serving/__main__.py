"""Requests a second, latency, CPU and memory of our server and of others, by the same load.

python -m benchmarks.serving [--quick] [--peers FOLDER]

The load is wrk with a script that sends every row in turn and checks every reply. A peer is
measured when FOLDER holds a virtual environment of its name: mosec, litserve, fastapi, pytriton,
mlserver, kserve, bentoml, ray_serve, each with what `peers/NAME_server.py` imports. PyTriton
brings an interpreter that reads the standard library of its environment, and needs one of a Python
before 3.11.5, such as Debian's.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.figures import Figure, report
from benchmarks.serving.measure import HERE, Measured, free_port, measure, measure_ours, running
from benchmarks.serving.places import MODEL
from benchmarks.serving.world import make_world

INFERENCE = f"/v2/models/{MODEL}/infer"
# (the path it answers at, the requests it can read)
PEERS = {
    "mosec": ("/inference", "bodies.txt"),
    "litserve": ("/inference", "bodies.txt"),
    "fastapi": ("/inference", "bodies.txt"),
    "pytriton": (INFERENCE, "bodies_2d.txt"),
    "mlserver": (INFERENCE, "bodies.txt"),
    "kserve": (INFERENCE, "bodies.txt"),
    "bentoml": ("/inference", "bodies.txt"),
    "ray_serve": ("/inference", "bodies.txt"),
}


# How many times as many requests a second, at 32 connections.
GOALS = {
    "mosec": 1.2,
    "pytriton": 6,
    "mlserver": 15,
    "kserve": 15,
    "litserve": 25,
    "ray_serve": 100,
}


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


def measure_peer(
    folder: Path, peers: Path, name: str, connections: tuple[int, ...], seconds: int
) -> dict[int, Measured]:
    port = free_port()
    command = [str(peers / name / "bin/python"), str(HERE / "peers" / f"{name}_server.py")]
    command += ["--port", str(port), "--address", "127.0.0.1"] if name == "mosec" else [str(port)]
    path, bodies = PEERS[name]
    with running(command, folder) as server:
        url = f"http://127.0.0.1:{port}{path}"
        return measure([server], url, folder, connections, seconds, bodies=bodies)


def figures(results: dict[str, dict[int, Measured]], connections: tuple[int, ...]) -> list[Figure]:
    found: list[Figure] = []
    ours = results["raymlops"]
    for number in connections:
        others = {name: each[number] for name, each in results.items() if name != "raymlops"}
        mosec = others.get("mosec")
        at_most = ours[number].p99_ms
        central = number == 32 and mosec is not None
        found += [
            Figure(
                name=f"requests_{number}_connections_per_s",
                unit="1/s",
                ours=ours[number].per_s,
                references={name: each.per_s for name, each in others.items()},
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
    rates = {name: each[32].per_s for name, each in results.items()}
    for peer in [peer for peer in GOALS if peer in rates]:
        found.append(
            Figure(
                name=f"times_{peer}_32_connections",
                unit="x",
                ours=rates["raymlops"] / rates[peer],
                references={peer: rates[peer]},
                goal=f">= {GOALS[peer]:g}",
                met=rates["raymlops"] >= GOALS[peer] * rates[peer],
            )
        )
    memory = {name: each[connections[-1]].rss_mib for name, each in results.items()}
    held = memory.pop("raymlops")
    found.append(
        Figure(
            name="memory_mib", unit="MiB", ours=held, references=memory, goal="< 350",
            met=held < 350,
        )
    )  # fmt: skip
    return found


if __name__ == "__main__":
    main()
