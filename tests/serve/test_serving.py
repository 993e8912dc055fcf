"""The whole of serving on a real Ray with a real model."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import ray

from raymlops.cluster import Session, find, spawn
from raymlops.errors import ClusterError, NotFoundError, ReleaseError, RequestError
from raymlops.ledger import Ledger, Pane
from raymlops.models import PROBABILITY, Bundle
from raymlops.monitor import DriftPolicy
from raymlops.monitor.metrics import Exporter, ExporterSettings
from raymlops.serve import (
    Arm,
    Client,
    Deployment,
    ServeSettings,
    TapSummary,
    TrafficTable,
    deploy,
    model_handle,
    publish,
    standing,
    undeploy,
    wait_applied,
)
from raymlops.serve.deployment.autoscaling import Autoscaling
from raymlops.serve.door.actor import all_doors
from raymlops.serve.protocols.open_inference.grpc.messages import request_class, response_class
from tests.serve.asking import ask, requests_of_all_kinds
from tests.serve.conftest import MODEL, World, make_world
from tests.serve.load import eventually, load

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    # Ray Serve's own, at its import.
    pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`"),
]

MONITOR = "test-monitor"
EXPORTER = "test-exporter"
DAY = datetime(2013, 7, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Service:
    world: World
    deployment: Deployment
    targets: Path

    def client(self) -> Client:
        return Client(self.deployment.url)

    def split(self, *arms: Arm) -> int:
        """Publishes a table, and returns when it is in force."""
        table = TrafficTable(model=MODEL, arms=arms, salt="test")
        generation = publish(table, ledger_url=self.world.ledger_url)
        wait_applied(MODEL, generation, ledger_url=self.world.ledger_url)
        return generation


CHAMPION = Arm(name="champion", version="1.0.0", share=1.0)


def start_monitor(ledger_url: str) -> Any:
    return spawn(monitor_class(), MONITOR, ledger_url)


def monitor_class() -> type:
    """A class that actors get by value: they cannot import this module."""

    class Monitor:
        def __init__(self, ledger_url: str) -> None:
            self.ledger = Ledger(ledger_url)

        def observe(self, *messages: bytes) -> None:
            for summary in map(TapSummary.from_bytes, messages):
                self.ledger.observations.add_tap(
                    summary.replica, summary.sequence, summary.panes, summary.predictions
                )

        def pid(self) -> int:
            return os.getpid()

    return Monitor


@pytest.fixture(scope="module")
def service(
    own_ray_cluster: Session,
    bundles: dict[str, Bundle],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """One replica of the model, on a Ray that this module shares."""
    from ray import serve

    world = make_world(bundles, tmp_path_factory.mktemp("world"))
    start_monitor(world.ledger_url)
    home = tmp_path_factory.mktemp("home")
    spawn(Exporter, EXPORTER, world.ledger_url, ExporterSettings(), home, DriftPolicy())
    deployment = deploy(
        MODEL,
        ledger_url=world.ledger_url,
        store_uri=world.store_uri,
        settings=ServeSettings(port=0, proxy_port=0, grpc_port=0),
        tap=MONITOR,
        exporter=EXPORTER,
    )
    yield Service(world, deployment, home / "prometheus" / "raymlops.json")
    serve.shutdown()


def test_answers_equal_the_bundles(service: Service) -> None:
    columns = service.world.rows(0, 60)
    with service.client() as client:
        answer = client.infer(MODEL, columns, request_id="r-1")
        assert client.ready(MODEL)
        assert client.metadata(MODEL)["versions"] == ["1.0.0"]
    wanted = service.world.bundles["1.0.0"].predict(columns)
    assert (answer.request_id, answer.version, answer.arm) == ("r-1", "1.0.0", "champion")
    np.testing.assert_allclose(answer.outputs[PROBABILITY], wanted[PROBABILITY], rtol=1e-6)
    assert answer.outputs["benign"].tolist() == wanted["benign"].tolist()


def test_grpc_gives_the_same_answers(service: Service) -> None:
    columns = service.world.rows(1, 3)
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [2], "contents": {"bytes_contents": texts}}
        if column.dtype == object and (texts := [text.encode() for text in column])
        else {
            "name": name,
            "datatype": "FP64",
            "shape": [2],
            "contents": {"fp64_contents": column.tolist()},
        }
        for name, column in columns.items()
    ]
    assert service.deployment.grpc is not None
    with grpc.insecure_channel(service.deployment.grpc) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=request_class("ModelInfer").SerializeToString,
            response_deserializer=response_class("ModelInfer").FromString,
        )
        answer = infer(request_class("ModelInfer")(model_name=MODEL, inputs=inputs), timeout=20.0)
    wanted = service.world.bundles["1.0.0"].predict(columns)[PROBABILITY]
    found = np.frombuffer(answer.raw_output_contents[0], np.float32)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_the_door_and_rays_proxy_give_the_same_answers(service: Service) -> None:
    assert service.deployment.proxy_url is not None
    for request in requests_of_all_kinds(service.world):
        by_door, by_proxy = (
            ask(url, request) for url in (service.deployment.url, service.deployment.proxy_url)
        )
        assert by_door == by_proxy, request


def test_a_handle_gives_the_same_answers(service: Service) -> None:
    handle = model_handle(MODEL)
    columns = service.world.rows(0, 300)
    when = DAY.replace(year=2012)  # the rows of this year are counted by another test
    with service.client() as client:
        for about in ({"key": "user-7", "event_time": when}, {"version": "1.0.0"}):
            wanted = client.infer(MODEL, columns, request_id="same", **about)
            found = handle.infer.remote(columns, request_id="same", **about).result(timeout_s=30.0)
            np.testing.assert_equal(asdict(found), asdict(wanted))
        with pytest.raises(RequestError) as over_http:
            client.infer(MODEL, {"radius": columns["radius"]})
    with pytest.raises(RequestError) as by_handle:
        handle.infer.remote({"radius": columns["radius"]}).result(timeout_s=30.0)
    assert by_handle.value.status == over_http.value.status == 400
    assert over_http.value.message in str(by_handle.value)
    with pytest.raises(NotFoundError, match="no model 'boats' is deployed"):
        model_handle("boats")


def test_the_standing_tells_of_replicas_and_their_load(service: Service) -> None:
    with service.client() as client:
        client.infer(MODEL, service.world.rows(0, 1))
    eventually(lambda: standing()[0]["replicas"][0].get("requests", 0) > 0)
    (door,) = standing()
    assert door["addresses"] == [service.deployment.url.removeprefix("http://")]
    assert door["models"] == [MODEL]
    assert door["replicas"][0]["versions"] == ["1.0.0"]
    assert door["replicas"][0]["mean_ms"] > 0.0


def test_a_refusal_names_the_field(service: Service) -> None:
    columns = dict(service.world.rows(0, 3))
    with service.client() as client:
        columns["radius"] = np.array([1.0, -1.0, 2.0])
        with pytest.raises(RequestError, match="field 'radius': row 1 is -1") as refused:
            client.infer(MODEL, columns)
        assert refused.value.status == 400
        del columns["radius"]
        with pytest.raises(RequestError, match="field 'radius': missing"):
            client.infer(MODEL, columns)
        with pytest.raises(RequestError, match="no model 'nonesuch' is deployed") as unknown:
            client.infer("nonesuch", columns)
        assert unknown.value.status == 404


def test_the_server_describes_itself(service: Service) -> None:
    with httpx.Client(base_url=service.deployment.url, trust_env=False) as http:
        assert http.get("/v2").json()["name"] == "raymlops"
        assert http.get("/v2/health/live").json() == {"live": True}
        assert http.get("/v2/health/ready").json() == {"ready": True}
        too_large = http.post(f"/v2/models/{MODEL}/infer", content=b" " * (8 * 1024 * 1024 + 1))
        assert too_large.status_code == 413


def test_the_exporter_has_every_request_though_it_is_killed(service: Service) -> None:
    def count() -> float:
        """As Prometheus does: it looks for the exporter where that says it is."""
        (target,) = json.loads(service.targets.read_text())[0]["targets"]
        try:
            text = httpx.get(f"http://{target}/metrics").text
        except httpx.TransportError:
            return 0.0
        lines = [line for line in text.splitlines() if line.startswith("raymlops_requests_total")]
        return sum(float(line.rpartition(" ")[2]) for line in lines if '"ok"' in line)

    with service.client() as client:
        for row in range(20):
            client.infer(MODEL, service.world.rows(row, row + 1))
    eventually(lambda: count() >= 20)
    before = count()
    ray.kill(find(EXPORTER), no_restart=False)
    eventually(lambda: count() >= before)


def test_keys_stick_to_their_arm_and_fill_its_share(service: Service) -> None:
    service.split(
        Arm(name="champion", version="1.0.0", share=0.75),
        Arm(name="canary", version="1.0.1", share=0.25),
    )
    columns = service.world.rows(0, 1)
    wanted = {version: b.predict(columns) for version, b in service.world.bundles.items()}

    def ask(key: int) -> str:
        answer = client.infer(MODEL, columns, key=f"user-{key}")
        score = wanted[answer.version][PROBABILITY]
        np.testing.assert_allclose(answer.outputs[PROBABILITY], score, rtol=1e-6)
        return answer.arm

    with service.client() as client, ThreadPoolExecutor(8) as pool:
        first = list(pool.map(ask, range(400)))
        assert list(pool.map(ask, range(400))) == first
        pinned = client.infer(MODEL, columns, version="1.0.1")
    assert Counter(first)["canary"] == pytest.approx(100, abs=30)  # 3.5 standard deviations
    assert (pinned.version, pinned.arm) == ("1.0.1", "pinned")


def test_no_request_fails_while_tables_are_swapped(service: Service) -> None:
    with load(service.deployment.url, service.world) as outcomes:
        for version in ("1.0.1", "1.0.2", "1.0.0", "1.0.2", "1.0.0"):
            service.split(Arm(name="champion", version=version, share=1.0))
            seen = len(outcomes)
            eventually(lambda seen=seen: len(outcomes) > seen + 20)
    assert set(outcomes) == {"1.0.0", "1.0.1", "1.0.2"}


def test_no_request_fails_while_the_model_is_deployed_again(service: Service) -> None:
    with load(service.deployment.url, service.world, num_clients=2) as outcomes:
        eventually(lambda: len(outcomes) > 20)
        again = deploy(
            MODEL,
            ledger_url=service.world.ledger_url,
            store_uri=service.world.store_uri,
            settings=ServeSettings(port=0, proxy_port=0),
            tap=MONITOR,
        )
        seen = len(outcomes)
        eventually(lambda: len(outcomes) > seen + 20)
    assert again.url == service.deployment.url
    assert set(outcomes) == {"1.0.0"}


def test_a_refused_update_leaves_what_ran_to_be_healed(service: Service, tmp_path: Path) -> None:
    """Serve kept the refused one as its target, and started nothing when a replica died later."""
    from ray import serve

    with pytest.raises(ClusterError, match=r"holds no keys[\s\S]*What ran before runs again"):
        deploy(
            MODEL,
            ledger_url=service.world.ledger_url,
            store_uri=service.world.store_uri,
            settings=ServeSettings(port=0, proxy_port=0, keys_file=tmp_path / "missing"),
            tap=MONITOR,
        )
    (model,) = (
        each for name, each in serve.status().applications.items() if name.endswith(f"-{MODEL}")
    )
    assert model.status == "RUNNING"
    with service.client() as client:
        assert client.infer(MODEL, service.world.rows(0, 1)).version == "1.0.0"


def test_replicas_that_never_fit_are_refused_before_anything_starts(service: Service) -> None:
    """Serve waited for ever, and said nothing."""
    with pytest.raises(ClusterError, match=r"a replica needs 50 CPUs .*, the largest node has 4"):
        deploy(
            MODEL,
            ledger_url=service.world.ledger_url,
            store_uri=service.world.store_uri,
            settings=ServeSettings(port=0, proxy_port=0, num_cpus=50.0),
        )


@pytest.mark.endurance
def test_replicas_follow_what_is_in_work_and_no_request_fails(service: Service) -> None:
    def num_replicas() -> int:
        return sum(not replica["leaving"] for replica in standing()[0]["replicas"])

    # Clients of one process keep a server busy for a part of the time only.
    scaling = Autoscaling(
        max_replicas=2, target_in_work=0.1, over_s=10.5, up_after_s=0.0, down_after_s=0.0
    )
    redeploy(service, ServeSettings(port=0, proxy_port=0, autoscaling=scaling))
    assert num_replicas() == 1
    with load(service.deployment.url, service.world, num_clients=4) as outcomes:
        eventually(lambda: num_replicas() == 2, timeout_s=60.0)
        seen = len(outcomes)
        eventually(lambda: len(outcomes) > seen + 50)
    eventually(lambda: num_replicas() == 1, timeout_s=60.0)
    assert set(outcomes) == {"1.0.0"}
    redeploy(service, ServeSettings(port=0, proxy_port=0))


@pytest.mark.endurance
def test_connections_are_dealt_by_the_routing_of_the_last_deployment(service: Service) -> None:
    address = service.deployment.url.removeprefix("http://")

    def shares() -> list[int]:
        """Of eight connections of one session, how many each replica has."""
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                connection = HTTPConnection(address)
                stack.callback(connection.close)
                connection.request("GET", f"/v2/models/{MODEL}", headers={"X-Session-Id": "anna"})
                assert connection.getresponse().read()
            return sorted(replica["connections"] for replica in standing()[0]["replicas"])

    settings = ServeSettings(port=0, proxy_port=0, num_replicas=2, num_cpus=0)
    for routing, wanted in (("consistent_hash", [0, 8]), ("round_robin", [4, 4])):
        redeploy(service, replace(settings, routing=routing))
        eventually(lambda: len(standing()[0]["replicas"]) == 2)
        assert shares() == wanted
        eventually(lambda: not any(each["connections"] for each in standing()[0]["replicas"]))
    redeploy(service, ServeSettings(port=0, proxy_port=0))
    eventually(lambda: len(standing()[0]["replicas"]) == 1)


def redeploy(service: Service, settings: ServeSettings) -> None:
    deploy(
        MODEL,
        ledger_url=service.world.ledger_url,
        store_uri=service.world.store_uri,
        settings=settings,
        tap=MONITOR,
    )


@pytest.mark.parametrize("retries", [0, 1])
def test_a_replica_that_is_killed_fails_what_is_in_flight_or_with_a_retry_nothing(
    service: Service, retries: int
) -> None:
    eventually(lambda: "pid" in standing()[0]["replicas"][0])
    killed = standing()[0]["replicas"][0]["pid"]
    known = standing()[0]["lost"].get(MODEL, 0)
    with load(service.deployment.url, service.world, num_clients=4, retries=retries) as outcomes:
        eventually(lambda: len(outcomes) > 50)
        os.kill(killed, signal.SIGKILL)
        seen = len(outcomes)
        eventually(lambda: len(outcomes) > seen + 50, timeout_s=60.0)
    assert standing()[0]["lost"][MODEL] == known + 1
    failed = [outcome for outcome in outcomes if not outcome.startswith("1.0.")]
    assert len(failed) <= (0 if retries else 4)
    assert all(failure.startswith("503 ") for failure in failed)


def test_a_door_that_is_killed_fails_nothing(service: Service) -> None:
    (door,) = all_doors()
    with load(service.deployment.url, service.world, num_clients=2) as outcomes:
        eventually(lambda: len(outcomes) > 20)
        os.kill(ray.get(door.pid.remote()), signal.SIGKILL)
        with service.client() as late:  # its connection waits in the kernel's queue
            assert late.infer(MODEL, service.world.rows(0, 1)).arm
        seen = len(outcomes)
        eventually(lambda: len(outcomes) > seen + 20)
    assert all(outcome.startswith("1.0.") for outcome in outcomes)
    (told,) = standing()
    assert told["addresses"] == [service.deployment.url.removeprefix("http://")]


def test_a_version_that_cannot_be_loaded_is_refused_and_serving_goes_on(service: Service) -> None:
    service.split(CHAMPION)
    with Ledger(service.world.ledger_url) as ledger:
        digest = ledger.registry.resolve(f"{MODEL}@1.0.2").bundle
    blob = Path(service.world.store_uri) / "blobs" / digest[:2] / digest
    intact = blob.read_bytes()
    blob.write_bytes(intact + b" ")
    with pytest.raises(ReleaseError, match=r"is refused: .*IntegrityError"):
        service.split(Arm(name="champion", version="1.0.2", share=1.0))
    blob.write_bytes(intact)
    with service.client() as client:
        assert client.infer(MODEL, service.world.rows(0, 1)).version == "1.0.0"
    service.split(CHAMPION)


def test_a_table_of_unknown_versions_is_not_published(service: Service) -> None:
    with pytest.raises(NotFoundError, match=r"^no tumours 9\.9\.9; the ledger holds"):
        service.split(Arm(name="champion", version="9.9.9", share=1.0))


def test_the_monitor_counts_every_row_once_though_it_is_killed(service: Service) -> None:
    import ray

    service.split(CHAMPION)
    with Ledger(service.world.ledger_url) as ledger, service.client() as client:

        def panes() -> list[Pane]:
            return ledger.observations.panes(MODEL, start=date(2013, 1, 1), end=date(2014, 1, 1))

        def rows() -> int:
            return sum(pane.num_rows for pane in panes())

        def ask(rounds: int) -> None:
            for _ in range(rounds):
                client.infer(MODEL, columns, event_time=DAY)

        columns = service.world.rows(0, 20)
        ask(20)
        os.kill(ray.get(find(MONITOR).pid.remote()), signal.SIGKILL)
        ask(20)
        ray.kill(find(MONITOR), no_restart=True)
        ask(20)
        start_monitor(service.world.ledger_url)
        eventually(lambda: rows() >= 60 * 20)
        ask(1)  # were anything counted twice, it would be there by the time this one is
        eventually(lambda: rows() >= 61 * 20)
        (pane,) = panes()
        bundle = service.world.bundles["1.0.0"]
        counts = bundle.profile.count(columns, bundle.predict(columns)[PROBABILITY])
    assert (pane.version, pane.arm, pane.day) == ("1.0.0", "champion", DAY.date())
    assert (pane.num_rows, pane.num_failed, sum(pane.latency)) == (61 * 20, 0, 61)
    assert pane.cells.tolist() == (61 * counts).tolist()


def test_the_board_comes_back_from_the_ledger(service: Service) -> None:
    import ray

    service.split(CHAMPION)
    ray.kill(find(service.deployment.board), no_restart=True)
    with service.client() as client:
        assert client.infer(MODEL, service.world.rows(0, 1)).version == "1.0.0"
        service.split(Arm(name="champion", version="1.0.1", share=1.0))
        assert client.infer(MODEL, service.world.rows(0, 1)).version == "1.0.1"
    service.split(CHAMPION)


def test_a_model_that_is_undeployed_is_gone(service: Service) -> None:
    undeploy(MODEL)
    with service.client() as client:
        assert not client.ready(MODEL)
