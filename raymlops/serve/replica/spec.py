"""What a replica is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from raymlops.serve.batching import BatchPolicy
from raymlops.serve.caching import CachePolicy
from raymlops.serve.deferred import DeferredPolicy
from raymlops.serve.door.tls import TlsFiles
from raymlops.serve.engines import EngineSettings
from raymlops.serve.http import HttpLimits
from raymlops.serve.versions.swapping import SwapPolicy
from raymlops.serve.web.cors import CorsPolicy
from raymlops.storage import Copies
from raymlops.telemetry.logs import LogPolicy


@dataclass(frozen=True, kw_only=True)
class ReplicaSpec:
    """What a replica is made from; `log_folder` is on its own node. It listens at `grpc`, which
    the model's replicas of a node share. The monitor is told where rows lie in `slice_by`. Of what
    it loads it keeps `copies`, on its own node too."""

    model: str
    ledger_url: str
    store_uri: str
    batch: BatchPolicy
    http: HttpLimits
    drain_timeout_s: float = 20.0
    engine: EngineSettings = field(default_factory=EngineSettings)
    cache: CachePolicy | None = None
    swap: SwapPolicy = field(default_factory=SwapPolicy)
    log: LogPolicy = field(default_factory=LogPolicy)
    log_folder: str = "logs"
    traces_to: str | None = None
    slice_by: tuple[str, ...] = ()
    keys_file: Path | None = None
    cors: CorsPolicy = field(default_factory=CorsPolicy)
    tls: TlsFiles | None = None
    grpc: tuple[str, int] | None = None
    deferred: DeferredPolicy = field(default_factory=DeferredPolicy)
    copies: Copies | None = None
