"""Ray as raymlops uses it: reach it, start and end it, run jobs and named actors on it."""

from raymlops.cluster.actors import find, spawn
from raymlops.cluster.code import code_digest
from raymlops.cluster.connect import Session, connect, is_private
from raymlops.cluster.doctor import Finding, Level, diagnose
from raymlops.cluster.head import Node
from raymlops.cluster.jobs import JobResult, submit
from raymlops.cluster.lifecycle import ClusterRecord, down, up
from raymlops.cluster.renewal import dismiss, renew
from raymlops.cluster.settings import ClusterSettings
from raymlops.cluster.status import Application, ClusterStatus, status

__all__ = [
    "Application",
    "ClusterRecord",
    "ClusterSettings",
    "ClusterStatus",
    "Finding",
    "JobResult",
    "Level",
    "Node",
    "Session",
    "code_digest",
    "connect",
    "diagnose",
    "dismiss",
    "down",
    "find",
    "is_private",
    "renew",
    "spawn",
    "status",
    "submit",
    "up",
]
