"""Serving: an Open Inference Protocol server whose versions are swapped without a restart.

deployment = deploy("flights", ledger_url=..., store_uri=...)
with Client(deployment.url) as client:
    client.infer("flights", {"dep_hour": [7.0], "carrier": ["AA"]})
publish(TrafficTable(model="flights", arms=(...)), ledger_url=...)

Where to look:

    a request     door, routing, http, web, access, protocols, inference, deferred
    its model     traffic, versions, batching, engines, caching
    its replica   replica, process, deployment
    afterwards    witnesses, tap
    elsewhere     client, offline, bench
"""

from raymlops.serve.batching import BatchPolicy
from raymlops.serve.caching import CachePolicy, ModelCache, ModelCachePolicy, memoize
from raymlops.serve.client import Answer, AsyncClient, Client
from raymlops.serve.deployment.autoscaling import Autoscaling
from raymlops.serve.deployment.deployment import (
    Deployment,
    check_deployment,
    deploy,
    model_handle,
    undeploy,
)
from raymlops.serve.deployment.placing import application_name, pool_name, standing
from raymlops.serve.deployment.pooled import check_pool, deploy_pool, undeploy_pool
from raymlops.serve.door.actor import warn_of_doors
from raymlops.serve.door.tls import TlsFiles
from raymlops.serve.http import HttpLimits
from raymlops.serve.replica.replica import Replica
from raymlops.serve.replica.spec import ReplicaSpec
from raymlops.serve.settings import ServeSettings
from raymlops.serve.tap import TapSummary
from raymlops.serve.tap.latency import quantile_s
from raymlops.serve.traffic import Arm, TrafficTable
from raymlops.serve.traffic.board import POLL_S
from raymlops.serve.traffic.publishing import publish, wait_applied

__all__ = [
    "POLL_S",
    "Answer",
    "Arm",
    "AsyncClient",
    "Autoscaling",
    "BatchPolicy",
    "CachePolicy",
    "Client",
    "Deployment",
    "HttpLimits",
    "ModelCache",
    "ModelCachePolicy",
    "Replica",
    "ReplicaSpec",
    "ServeSettings",
    "TapSummary",
    "TlsFiles",
    "TrafficTable",
    "application_name",
    "check_deployment",
    "check_pool",
    "deploy",
    "deploy_pool",
    "memoize",
    "model_handle",
    "pool_name",
    "publish",
    "quantile_s",
    "standing",
    "undeploy",
    "undeploy_pool",
    "wait_applied",
    "warn_of_doors",
]
