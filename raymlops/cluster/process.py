"""A background process that can be found again, and ended with all it started.

A process is named by pid, boot and start, so that another one which got the same pid later is
never taken for it. It leads a session of its own, and the session outlives its leader: what a
crashed leader left behind is still known to be its.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from raymlops.cluster.birth import boot_id, start_of
from raymlops.errors import ClusterError

# Where boots have no id, a start is told by the clock.
_CLOCK_SLACK_S = 2.0


@dataclass(frozen=True, kw_only=True)
class SessionLeader:
    """The first process of a session: its pid, and when it began as `birth` tells it."""

    pid: int
    boot: str | None
    started: float

    @classmethod
    def of(cls, pid: int) -> SessionLeader:
        """The running process `pid`.

        Raises:
            psutil.NoSuchProcess: It has ended already.
        """
        return cls(pid=pid, boot=boot_id(), started=start_of(pid))

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any], *, source: str) -> SessionLeader:
        """The leader that `source` keeps as `fields`.

        Raises:
            ClusterError: An earlier version wrote them; the message says what to do.
        """
        if "boot" not in fields:
            pid = fields["pid"]
            raise ClusterError(
                f"{source} was written by an earlier raymlops, whose start time of process {pid} "
                f"moves with the clock: if `ps -f {pid}` still shows what was started then, "
                f"`kill {pid}` ends it; then delete {source}"
            )
        return cls(**fields)

    def process(self) -> psutil.Process | None:
        """The process, or None once it has ended."""
        if self._pid_was_reused():
            return None
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.pid)
            return None if found.status() == psutil.STATUS_ZOMBIE else found
        return None

    def members(self) -> set[psutil.Process]:
        """All living processes of the session, and their descendants in other sessions."""
        if self._rebooted() or self._pid_was_reused():
            return set()
        roots = {process for process in psutil.process_iter() if self._leads(process)}
        return roots | {child for root in roots for child in _descendants(root)}

    def end(self, *, grace_s: float) -> None:
        """Ask the leader to stop, wait for every member, and kill those left after `grace_s`."""
        members = self.members()
        leader = self.process()
        if leader is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                leader.terminate()
            psutil.wait_procs([leader], timeout=grace_s)
        members |= self.members()
        _, alive = psutil.wait_procs(members, timeout=_after_leader_s(grace_s))
        _kill(alive)
        # Killing a parent can reveal a child that was forked after the last look.
        _kill(self.members())

    def _rebooted(self) -> bool:
        if self.boot is None:
            return psutil.boot_time() > self.started + _CLOCK_SLACK_S
        return self.boot != boot_id()

    def _pid_was_reused(self) -> bool:
        # The kernel gives a pid to nobody else while a session goes by that number, so a stranger
        # under our pid also says that the session is over.
        try:
            now = SessionLeader.of(self.pid)
        except psutil.NoSuchProcess:
            return False
        if self.boot is None:
            return abs(now.started - self.started) > _CLOCK_SLACK_S
        return now != self

    def _leads(self, process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False


def _after_leader_s(grace_s: float) -> float:
    """How long the members may outlive their leader: they have been told to stop by then."""
    return min(grace_s, 5.0)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill(processes: Iterable[psutil.Process]) -> None:
    doomed = list(processes)
    for process in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(doomed, timeout=5.0)
