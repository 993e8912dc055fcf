"""A background process that can be found again, and ended with all it started.

A process is named by pid and start time, so that another one which got the same pid later is
never taken for it. It leads a session of its own, and the session outlives its leader: what a
crashed leader left behind is still known to be its.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

# psutil derives a start time from the boot time, which moves when the clock is set.
_CLOCK_SLACK_S = 2.0


@dataclass(frozen=True, kw_only=True)
class SessionLeader:
    """The first process of a session, as it was when it started."""

    pid: int
    started_s: float

    @classmethod
    def of(cls, pid: int) -> SessionLeader:
        """The running process `pid`.

        Raises:
            psutil.NoSuchProcess: It has ended already.
        """
        return cls(pid=pid, started_s=psutil.Process(pid).create_time())

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
        rebooted = psutil.boot_time() > self.started_s + _CLOCK_SLACK_S
        if rebooted or self._pid_was_reused():
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

    def _pid_was_reused(self) -> bool:
        # The kernel gives a pid to nobody else while a session goes by that number, so a stranger
        # under our pid also says that the session is over.
        try:
            started_s = psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:
            return False
        return abs(started_s - self.started_s) > _CLOCK_SLACK_S

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
