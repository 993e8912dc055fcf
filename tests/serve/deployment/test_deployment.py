from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from raymlops.errors import ClusterError, ConfigError, NotFoundError
from raymlops.serve import (
    BatchPolicy,
    ServeSettings,
    check_pool,
    deploy,
    undeploy,
)
from raymlops.serve.deployment import deployment, placing


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"port": 65536}, "port is 65536, not within 0 and 65535"),
        ({"proxy_port": -1}, "proxy_port is -1, not within 0 and 65535"),
        ({"port": 9000, "proxy_port": 9000}, "port and proxy_port are both 9000"),
        ({"port": 9000, "grpc_port": 9000}, "port and grpc_port are both 9000"),
        ({"drain_timeout_s": 0.0}, r"drain_timeout_s is 0\.0, it must be positive"),
        ({"num_replicas": 0}, "num_replicas is 0, at least 1 is needed"),
        ({"num_cpus": -1.0}, r"num_cpus is -1\.0, it cannot be negative"),
        ({"max_ongoing_requests": 0}, "max_ongoing_requests is 0, at least 1 is needed"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServeSettings(**settings)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"max_rows": 0}, "max_rows is 0, at least 1 is needed"),
        ({"max_wait_s": -0.1}, r"max_wait_s is -0\.1, it must be 0 or more"),
        ({"max_rows": 8, "max_queue_rows": 7}, "max_queue_rows is 7, less than max_rows, 8"),
    ],
)
def test_impossible_batches_are_refused(policy: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchPolicy(**policy)


def test_a_model_needs_a_name_that_fits_a_url() -> None:
    with pytest.raises(ConfigError, match="model 'a/b' cannot be part of a URL"):
        deploy("a/b", ledger_url="sqlite://", store_uri="store")


@pytest.mark.parametrize(
    ("name", "models", "message"),
    [
        ("p q", ["m"], "pool 'p q' cannot be part of a URL"),
        ("p", ["m", "m"], r"a pool needs models, each once: \['m', 'm'\]"),
        ("p", [], "a pool needs models"),
    ],
)
def test_a_pool_needs_a_name_and_models_each_once(
    name: str, models: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_pool(name, models, ServeSettings())


def test_deploying_without_ray_says_what_to_do() -> None:
    with pytest.raises(ClusterError, match=r"within `raymlops\.cluster\.connect`"):
        deploy("m", ledger_url="sqlite://", store_uri="store")


def test_what_is_not_deployed_or_in_a_pool_is_not_undeployed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doors: list[dict[str, Any]] = [{"models": ["flights"], "replicas": []}]
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr(placing, "standing", lambda: doors)
    monkeypatch.setattr(deployment, "standing", lambda: doors)
    monkeypatch.setattr(deployment, "is_alone", lambda _: False)
    with pytest.raises(NotFoundError, match="which serves flights; for another"):
        undeploy("m")
    doors[0]["replicas"] = [{"pool": "beds", "leaving": False, "models": ["flights"]}]
    with pytest.raises(ConfigError, match="model 'flights' is in pool 'beds'"):
        undeploy("flights")


@pytest.fixture
def shared_port() -> Iterator[int]:
    """Where somebody listens who shares the port, as the gRPC of replicas does."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as listening:
        yield listening.getsockname()[1]


def deploy_at(port: int, replicas: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Raises NotFoundError, of the traffic table, when the port can be had."""

    def no_table(*_: str) -> int:
        raise NotFoundError("m")

    doors = [{"models": ["m"], "replicas": replicas}]
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr(placing, "standing", lambda: doors)
    monkeypatch.setattr(deployment, "standing", lambda: doors)
    monkeypatch.setattr(deployment, "check_room", lambda *_: None)
    monkeypatch.setattr(deployment, "ensure_table", no_table)
    deploy("m", ledger_url="sqlite://", store_uri="s", settings=ServeSettings(grpc_port=port))


def test_a_port_for_grpc_is_not_shared_with_strangers(
    shared_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A second cluster of the machine succeeded, and calls went to either at random.
    with pytest.raises(ClusterError, match=f"another cluster, listens on 127.0.0.1:{shared_port}"):
        deploy_at(shared_port, [], monkeypatch)


def test_a_port_for_grpc_is_not_shared_by_models(
    shared_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"models": ["n"], "grpc": ["127.0.0.1", shared_port]}
    with pytest.raises(ConfigError, match=f"'n' answers gRPC at 127.0.0.1:{shared_port}"):
        deploy_at(shared_port, [other], monkeypatch)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", None])
def test_a_port_for_grpc_stays_with_its_model(
    shared_port: int, monkeypatch: pytest.MonkeyPatch, host: str | None
) -> None:
    told = {} if host is None else {"grpc": [host, shared_port]}
    with pytest.raises(NotFoundError):
        deploy_at(shared_port, [{"models": ["m"], **told}], monkeypatch)


def test_importing_serve_imports_no_framework() -> None:
    frameworks = "ray", "torch", "tensorflow", "starlette", "onnxruntime"
    code = f"import sys, raymlops.serve; print([m for m in {frameworks} if m in sys.modules])"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
