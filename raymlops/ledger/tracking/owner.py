"""The process a run belongs to, and whether it can still be seen."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path

import psutil

from raymlops.cluster.birth import boot_id
from raymlops.ledger.records import Owner
from raymlops.ledger.tracking.liveness import Sight

_CLOCK_TOLERANCE_S = 1.0  # creation times are counted from boot, whose time moves with the clock


def this_process() -> Owner:
    return Owner(host=_host(), pid=os.getpid(), process_started_at=_started_at(os.getpid()))


def look_for(owner: Owner | None) -> Sight:
    """What became of a process, seen from this machine."""
    if owner is None or owner.host != _host():
        return "unclear"
    try:
        process = psutil.Process(owner.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return "gone"
        apart_s = abs(process.create_time() - owner.process_started_at)
    except psutil.NoSuchProcess:
        return "gone"
    return "lives" if apart_s <= _CLOCK_TOLERANCE_S else "unclear"


@functools.cache
def _started_at(pid: int) -> float:
    return psutil.Process(pid).create_time()


@functools.cache
def _host() -> str:
    """Machine, boot and process namespace: within these a process id names one process."""
    parts = [socket.gethostname()]
    boot, namespace = boot_id(), Path("/proc/self/ns/pid")
    if boot is not None and namespace.exists():  # Linux
        parts += [boot, namespace.readlink().name.strip("pid:[]")]
    return " ".join(parts)
