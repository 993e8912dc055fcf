"""Nodes and Ray Serve's controller die under load, and what the way over another node's door costs.

python -m benchmarks.serving_nodes [--quick]

A real Ray of a head that takes no replicas, as in cluster.yaml, and two nodes with one each, which
also take two when the other is lost. Clients know the door of the head alone, and ask once more
after a failure; every answer is checked.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import ray
from ray.cluster_utils import Cluster

from benchmarks.figures import Figure, report
from benchmarks.serving.clients import Clients
from benchmarks.serving.measure import Measured, measure
from benchmarks.serving.places import MODEL, ledger_url, store_uri
from benchmarks.serving.world import make_world
from raymlops.cluster import find
from raymlops.errors import ClusterError
from raymlops.serve import ServeSettings, deploy, standing
from raymlops.serve.door.actor import ask
from raymlops.serve.door.lookout import door_name

NUM_CLIENTS = 4
MEMORY = {"object_store_memory": 100_000_000}
GOAL_S = 15.0


class Load(Clients):
    """Clients that ask without pause, each twice at most; knows when what was answered."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(NUM_CLIENTS)
        told = json.loads((folder / "bodies.json").read_text())
        self._rows = list(zip(told["bodies"], told["answers"], strict=True))
        self._address, self._path = urlsplit(url).netloc, f"/v2/models/{MODEL}/infer"
        self.answered_at: list[float] = []
        self.failed = self.repeated = 0

    @property
    def num_answered(self) -> int:
        return len(self.answered_at)

    def longest_pause_s(self, since: float) -> float:
        """The longest time without any answer since then."""
        times = [since, *(at for at in self.answered_at if at > since)]
        return max(later - earlier for earlier, later in pairwise(times))

    def ask(self, client: int) -> None:
        connection, number = HTTPConnection(self._address, timeout=60), client
        while not self.done.is_set():
            number = (number + NUM_CLIENTS) % len(self._rows)
            if not self._is_right(connection, *self._rows[number]):
                self.repeated += 1
                self.failed += not self._is_right(connection, *self._rows[number])
            self.answered_at.append(time.monotonic())
        connection.close()

    def _is_right(self, connection: HTTPConnection, body: str, wanted: float) -> bool:
        try:
            connection.request("POST", self._path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            told = json.loads(response.read())
        except (OSError, HTTPException, ValueError):
            connection.close()
            return False
        return response.status == 200 and abs(told["outputs"][0]["data"][0] - wanted) < 1e-4


@contextlib.contextmanager
def running() -> Iterator[Cluster]:
    head = {"num_cpus": 0, "include_dashboard": False, "dashboard_port": None}
    cluster = Cluster(initialize_head=True, head_node_args={**MEMORY, **head})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2, **MEMORY)
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
    finally:
        from ray import serve

        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


def kill_nodes(cluster: Cluster, load: Load, rounds: int) -> dict[int, list[float]]:
    """Each round kills a node with replicas and adds an empty one. The longest pause of all
    clients after each loss, in seconds, by how many replicas were left elsewhere."""
    pauses: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(rounds):
        load.wait(100)
        number, lost = max((_num_replicas(node), node.node_id) for node in cluster.worker_nodes)
        (node,) = (each for each in cluster.worker_nodes if each.node_id == lost)
        killed_at = time.monotonic()
        _kill(node)
        cluster.remove_node(node, allow_graceful=False)
        load.wait(200)
        _until_two(cluster)
        pauses[2 - number].append(load.longest_pause_s(killed_at))
        cluster.add_node(num_cpus=2, **MEMORY)
    return pauses


def _kill(node: Any) -> None:
    """All processes of a node at once, as when its machine is lost."""
    (started,) = node.all_processes["raylet"]
    raylet = psutil.Process(started.process.pid)
    for process in (*raylet.children(recursive=True), raylet):
        process.suspend()
    for process in (*raylet.children(recursive=True), raylet):
        process.kill()


def _until_two(cluster: Cluster) -> None:
    deadline = time.monotonic() + 120
    while sum(map(_num_replicas, cluster.worker_nodes)) != 2:
        if time.monotonic() > deadline:
            raise SystemExit(f"no two replicas within 120 s: {standing()}")
        time.sleep(0.2)


def _num_replicas(node: Any) -> int:
    try:
        door = find(door_name(node.node_id))
    except ClusterError:  # there was never a replica on that node
        return 0
    return sum(not replica["leaving"] for replica in ask(door, "standing")["replicas"])


def kill_controllers(load: Load, rounds: int) -> None:
    for _ in range(rounds):
        load.wait(100)
        controller = ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
        killed = ray.get(controller.get_pid.remote())
        ray.kill(controller, no_restart=False)
        while ray.get(controller.get_pid.remote()) == killed:
            time.sleep(0.1)
        load.wait(100)


def over_doors(folder: Path, seconds: int) -> dict[str, Measured]:
    """The same replica by the door of its node, and by that of the head."""
    found: dict[str, Measured] = {}
    for door in standing():
        kind = "near" if door["replicas"] else "far"
        url = f"http://{door['addresses'][0]}/v2/models/{MODEL}/infer"
        if kind not in found:
            found[kind] = measure([], url, folder, (32,), seconds)[32]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds of each")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as name, running() as cluster:
        folder = Path(name)
        make_world(folder)
        settings = ServeSettings(port=0, num_replicas=2)
        where = {"ledger_url": ledger_url(folder), "store_uri": store_uri(folder)}
        url = deploy(MODEL, **where, settings=settings).url
        doors = over_doors(folder, 2 if quick else 8)
        with Load(url, folder) as controllers:
            kill_controllers(controllers, 2 if quick else 5)
        with Load(url, folder) as nodes:
            pauses = kill_nodes(cluster, nodes, 2 if quick else 6)
    report("serving_nodes", [*_of_doors(doors), *_of_losses(controllers, nodes, pauses)])


def _of_doors(doors: dict[str, Measured]) -> list[Figure]:
    near, far = doors["near"], doors["far"]
    return [
        Figure(
            name="requests_by_another_nodes_door",
            unit="1/s",
            ours=far.per_s,
            references={"by its own door": near.per_s},
        ),
        Figure(
            name="p50_by_another_nodes_door",
            unit="ms",
            ours=far.p50_ms,
            references={"by its own door": near.p50_ms},
        ),
    ]


def _of_losses(controllers: Load, nodes: Load, pauses: dict[int, list[float]]) -> list[Figure]:
    figures = [
        Figure(
            name=f"{name}_failed",
            unit="requests",
            ours=load.failed,
            references={"asked": len(load.answered_at), "asked twice": load.repeated},
            goal="0",
            met=load.failed == 0,
        )
        for name, load in (("controller_kills", controllers), ("node_kills_one_retry", nodes))
    ]
    for left, found in pauses.items():
        if found:
            figures.append(
                Figure(
                    name=f"longest_pause_with_{left}_of_2_replicas_left",
                    unit="s",
                    ours=max(found),
                    references={"median": statistics.median(found), "losses": len(found)},
                    goal=f"< {GOAL_S:g}",
                    met=max(found) < GOAL_S,
                )
            )
    return figures


if __name__ == "__main__":
    main()
