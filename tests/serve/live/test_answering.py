"""By whichever way a model is asked on a real Ray, the answers are the same."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import grpc
import httpx
import numpy as np
import pytest

from raymlops.errors import NotFoundError, RequestError
from raymlops.models import PROBABILITY
from raymlops.serve import model_handle, standing
from tests.serve.asking import ask, requests_of_all_kinds
from tests.serve.conftest import MODEL
from tests.serve.live.service import ON_RAY, Service
from tests.serve.load import eventually
from tests.serve.protocols.open_inference.grpc.calling import call, typed

pytestmark = ON_RAY


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
    assert service.deployment.grpc is not None
    with grpc.insecure_channel(service.deployment.grpc) as channel:
        answer = call(channel, "ModelInfer", model_name=MODEL, inputs=typed(2))
    columns = service.world.rows(1, 3)
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
    when = datetime(2012, 7, 1, 12, tzinfo=UTC)  # the rows of 2013 are counted by another test
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
