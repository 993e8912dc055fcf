"""How a model is served: addresses, replicas, batches, limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from raymlops.config import check_durations
from raymlops.serve.batching import BatchPolicy
from raymlops.serve.caching import CachePolicy, ModelCachePolicy
from raymlops.serve.deferred.policy import DeferredPolicy
from raymlops.serve.deployment.autoscaling import Autoscaling
from raymlops.serve.door.tls import TlsFiles
from raymlops.serve.engines import EngineSettings
from raymlops.serve.http import HttpLimits
from raymlops.serve.routing import RoutingName
from raymlops.serve.versions.swapping import SwapPolicy
from raymlops.serve.web.cors import CorsPolicy
from raymlops.telemetry.logs import LogPolicy


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Where the server listens, and how a model's replicas are sized. Port 0 is any free one.

    All models of a node share `port`. With a `proxy_port` Ray Serve's own proxy answers the same
    requests there, slower. `routing` is the policy by which doors deal connections, and that proxy
    and Serve's handles requests, to the replicas; where it is None, doors keep connections even,
    and Serve takes two choices, those of the same node first. With a `keys_file` only its keys are
    let in (`raymlops keys make`), with `tls` only encrypted connections; paths are made absolute,
    since replicas are in other folders. Pages in browsers read answers where `cors` names their
    origin. With a `grpc_port` the model answers gRPC there; models
    cannot share that one. With `autoscaling` there are as many replicas as it says, instead of
    `num_replicas`. Models that are deployed as a pool share replicas, each of which holds as many
    as `pool` says. `traces_to` is the URL of an OpenTelemetry collector, such as
    http://127.0.0.1:4318/v1/traces.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    proxy_port: int | None = None
    grpc_port: int | None = None
    num_replicas: int = 1
    autoscaling: Autoscaling | None = None
    num_cpus: float = 1.0
    batch: BatchPolicy = field(default_factory=BatchPolicy)
    engine: EngineSettings = field(default_factory=EngineSettings)
    cache: CachePolicy | None = None
    swap: SwapPolicy = field(default_factory=SwapPolicy)
    pool: ModelCachePolicy = field(default_factory=ModelCachePolicy)
    http: HttpLimits = field(default_factory=HttpLimits)
    keys_file: Path | None = None
    cors: CorsPolicy = field(default_factory=CorsPolicy)
    tls: TlsFiles | None = None
    deferred: DeferredPolicy = field(default_factory=DeferredPolicy)
    drain_timeout_s: float = 20.0
    # Serve's default of 5 would keep batches that small; the batcher refuses what is too much.
    max_ongoing_requests: int = 4096
    routing: RoutingName | None = None
    log: LogPolicy = field(default_factory=LogPolicy)
    traces_to: str | None = None

    def __post_init__(self) -> None:
        if self.keys_file is not None:
            object.__setattr__(self, "keys_file", self.keys_file.absolute())
        taken: dict[int, str] = {}
        for name in ("port", "proxy_port", "grpc_port"):
            port = getattr(self, name) or 0
            if not 0 <= port <= 65535:
                raise ValueError(f"{name} is {port}, not within 0 and 65535")
            if port and taken.setdefault(port, name) != name:
                raise ValueError(f"{taken[port]} and {name} are both {port}; give each its own")
        for name in ("num_replicas", "max_ongoing_requests"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, at least 1 is needed")
        if self.autoscaling is not None and self.num_replicas != 1:
            raise ValueError(
                f"num_replicas is {self.num_replicas}, and autoscaling decides that: leave one out"
            )
        if self.num_cpus < 0:
            raise ValueError(f"num_cpus is {self.num_cpus}, it cannot be negative")
        check_durations(self, "drain_timeout_s")
