"""A machine that vanishes says nothing: no packet of it comes any more."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.networks import cut, join, tools, within

HERE, FAR = "10.78.0.1", "10.78.0.2"


@contextmanager
def network() -> Iterator[int]:
    """The pid of a process that has a network of its own."""
    unshare, ip = tools("unshare", "ip")
    command = [unshare, "--net", "sh", "-c", f"{ip} link set lo up && echo && exec cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield process.pid
        process.kill()


@contextmanager
def node(network: int, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A process of `vanishing` in that network."""
    with subprocess.Popen(
        within(network, sys.executable, "-m", "tests.serve.door.vanishing", *args),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def nod(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.endurance
def test_what_is_relayed_to_a_machine_that_vanished_ends_in_seconds(tmp_path: Path) -> None:
    with ExitStack() as stack:
        networks = [stack.enter_context(network()) for _ in range(2)]
        join(*networks, HERE, FAR)
        far = stack.enter_context(node(networks[1], "far", str(tmp_path), FAR))
        here = stack.enter_context(node(networks[0], "here", str(tmp_path), hear(far)))
        assert json.loads(hear(here)) == ["far"] * 3
        nod(far)
        assert hear(far) == "holds"
        nod(here)
        assert hear(far) == "asked"
        cut(networks[1])
        nod(here)
        in_flight, late, idle = json.loads(hear(here))
    # They may have been answered there, so that the door does not ask for them again.
    assert in_flight == late == ["cut", "near"]
    assert idle == ["answered", "near"]
