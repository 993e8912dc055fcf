"""The machines of a cluster, started and stopped over ssh."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from raymlops.cluster.auth import ensure_token
from raymlops.cluster.background import NodeRecord
from raymlops.cluster.ssh import Login
from raymlops.errors import ClusterError

_ASK_TIMEOUT_S = 120.0
# Setup may install all of PyTorch.
_START_TIMEOUT_S = 1800.0
# A Ray that runs there already never reads half a token.
_KEEP_TOKEN = (
    "umask 077; mkdir -p ~/.ray && cat > ~/.ray/auth_token.$$ "
    "&& mv ~/.ray/auth_token.$$ ~/.ray/auth_token"
)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine and the shell lines of its role.

    `node` is the start line up to its verb: environment, interpreter, --home.
    """

    host: str
    setup: tuple[str, ...]
    start: tuple[str, ...]
    node: str


@dataclass(frozen=True, kw_only=True)
class Machines:
    """The head and workers of a cluster, and how to log in to them."""

    head: Machine
    workers: tuple[Machine, ...]
    login: Login

    @property
    def hosts(self) -> frozenset[str]:
        """Every machine, the head included."""
        return frozenset(machine.host for machine in (self.head, *self.workers))

    def start_head(self) -> NodeRecord:
        """The node of the head, started unless it runs already."""
        return self._start(self.head)

    def start_workers(self) -> None:
        """Start, all at once, the workers that do not run yet.

        Raises:
            ClusterError: Some did not start; the message names each. The others have joined.
        """
        _each(self.workers, self._start)

    def stop(self) -> None:
        """End the recorded node on every machine.

        Raises:
            ClusterError: Some could not be told; the others have been.
        """
        _each((self.head, *self.workers), lambda machine: self._ask(machine, "stop"))

    def _start(self, machine: Machine) -> NodeRecord:
        # It fails where nothing runs, and where raymlops is still to be installed.
        with contextlib.suppress(ClusterError):
            return self._show(machine)
        run = partial(self.login.run, machine.host)
        run(_KEEP_TOKEN, stdin=ensure_token(), timeout_s=_ASK_TIMEOUT_S)
        for line in (*machine.setup, *machine.start):
            run(f"export RAY_HEAD_IP={self.head.host}; {line}", timeout_s=_START_TIMEOUT_S)
        return self._show(machine)

    def _show(self, machine: Machine) -> NodeRecord:
        output = self._ask(machine, "show")
        # A login shell may greet before it runs the command.
        _, brace, fields = output.partition("{")
        return NodeRecord.from_fields(
            json.loads(brace + fields), source=f"node.json on {machine.host}"
        )

    def _ask(self, machine: Machine, verb: str) -> str:
        return self.login.run(machine.host, f"{machine.node} {verb}", timeout_s=_ASK_TIMEOUT_S)


def _each(machines: Sequence[Machine], act: Callable[[Machine], object]) -> None:
    """Do `act` to all machines at once, then raise what went wrong, if anything did."""

    def problem(machine: Machine) -> str | None:
        try:
            act(machine)
        except ClusterError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max_workers=len(machines) or 1) as pool:
        problems = [found for found in pool.map(problem, machines) if found is not None]
    if problems:
        raise ClusterError("\n".join(problems))
