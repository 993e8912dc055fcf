"""A training step of two workers on a link of 100 Mbit/s, with each compressor and without.

The workers are in network namespaces of their own, joined by a cable that `tc` slows down; needs
root, `iproute2` and `util-linux`. What the kernel counts on the interface stands beside ours.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, report

LINK = "100mbit"
ADDRESSES = ("10.78.0.1", "10.78.0.2")
PLAIN = "plain"
GOALS = {"int8": 2.0, "top_1_percent": 5.0}
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5 steps instead of 15")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    num_steps = 5 if arguments.quick else 15
    if arguments.worker is not None:
        print(json.dumps(_work(arguments.worker, num_steps)))
        return
    with _machines() as machines:
        workers = [
            subprocess.Popen(
                ["nsenter", f"--target={machine}", "--net", sys.executable, "-m",
                 "benchmarks.compression", f"--worker={rank}", *sys.argv[1:]],
                stdout=subprocess.PIPE, text=True,
                env={**os.environ, "PATH": PATH, "GLOO_SOCKET_IFNAME": "eth0"},
            )
            for rank, machine in enumerate(machines)
        ]  # fmt: skip
        told = [worker.communicate()[0] for worker in workers]
        if any(worker.returncode for worker in workers):
            sys.exit("a worker failed; what it said is above")
    report("compression", _figures(json.loads(told[0].splitlines()[-1])))


def _figures(measured: dict[str, dict[str, float]]) -> list[Figure]:
    plain = measured.pop(PLAIN)
    figures = []
    for name, found in measured.items():
        speedup, goal = plain["step_s"] / found["step_s"], GOALS.get(name)
        figures += [
            Figure(
                name=f"step_{name}_ms",
                unit="ms",
                ours=1000 * found["step_s"],
                references={"all_reduce": 1000 * plain["step_s"]},
            ),
            Figure(
                name=f"step_{name}_speedup_ratio",
                unit="times",
                ours=speedup,
                references={"all_reduce": 1.0},
                goal=None if goal is None else f">= {goal:g}",
                met=None if goal is None else speedup >= goal,
            ),
            Figure(
                name=f"sent_a_step_{name}_kb",
                unit="kB",
                ours=found["sent_bytes"] / 1e3,
                references={
                    "on the interface": found["wire_bytes"] / 1e3,
                    "all_reduce on the interface": plain["wire_bytes"] / 1e3,
                },
            ),
        ]
    return figures


def _work(rank: int, num_steps: int) -> dict[str, dict[str, float]]:
    """Medians a step of this worker, by compressor."""
    import torch
    import torch.distributed as dist

    from raymlops.train.compression import BFloat16, Float16, Int8, PowerSGD, RandomK, TopK

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://{ADDRESSES[0]}:29400", rank=rank, world_size=2
    )
    compressors = {
        PLAIN: None,
        "fp16": Float16(),
        "bf16": BFloat16(),
        "int8": Int8(),
        "top_1_percent": TopK(ratio=0.01),
        "random_1_percent": RandomK(ratio=0.01),
        "powersgd_rank_2": PowerSGD(rank=2),
    }
    found = {name: _measure(rank, each, num_steps) for name, each in compressors.items()}
    dist.destroy_process_group()
    return found


def _measure(rank: int, compressor: Any, num_steps: int) -> dict[str, float]:
    """Steps of a network of a million parameters on digits."""
    import torch
    import torch.distributed as dist
    from sklearn.datasets import load_digits
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    from raymlops.train.compression import CompressionHook

    images, labels = (torch.from_numpy(each) for each in load_digits(return_X_y=True))
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(64, 960), nn.ReLU(), nn.Linear(960, 960), nn.ReLU(), nn.Linear(960, 10)
    )
    model = DistributedDataParallel(network)
    hook = None if compressor is None else CompressionHook(compressor, model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    took_s, sent_before, wire_before = [], 0, 0
    for step in range(num_steps + 2):
        if step == 2:  # DDP has made its buckets anew, and everything is warm
            sent_before = hook.sent_bytes if hook else 0
            wire_before = _wire_bytes()
        rows = torch.arange(step * 128 + rank, step * 128 + 128, 2) % 1797
        dist.barrier()
        started = time.perf_counter()
        optimizer.zero_grad()
        logits = model(images[rows].float() / 16)
        torch.autograd.backward(nn.functional.cross_entropy(logits, labels[rows]))
        optimizer.step()
        took_s.append(time.perf_counter() - started)
    wire_bytes = _wire_bytes() - wire_before
    sent_bytes = hook.sent_bytes - sent_before if hook else 0
    if hook:
        hook.close()
    return {
        "step_s": statistics.median(took_s[2:]),
        "sent_bytes": sent_bytes / num_steps,
        "wire_bytes": wire_bytes / num_steps,
    }


def _wire_bytes() -> int:
    """What this namespace's interface has sent, by the kernel's count."""
    lines = Path("/proc/self/net/dev").read_text().splitlines()
    (line,) = [line for line in lines if line.strip().startswith("eth0:")]
    return int(line.split(":")[1].split()[8])


@contextmanager
def _machines() -> Iterator[list[int]]:
    """The pids of two processes, each in a network of its own, joined by a slow cable."""
    with ExitStack() as stack:
        pids = [stack.enter_context(_machine()) for _ in ADDRESSES]
        first, second = (["netns", str(pid)] for pid in pids)
        _run("ip", "link", "add", "eth0", *first, "type", "veth", "peer", "eth0", *second)
        for pid, address in zip(pids, ADDRESSES, strict=True):
            inside = ("nsenter", f"--target={pid}", "--net")
            _run(*inside, "ip", "address", "add", f"{address}/24", "dev", "eth0")
            _run(*inside, "ip", "link", "set", "eth0", "up")
            slow = ("tbf", "rate", LINK, "burst", "128kb", "latency", "200ms")
            _run(*inside, "tc", "qdisc", "add", "dev", "eth0", "root", *slow)
        yield pids


@contextmanager
def _machine() -> Iterator[int]:
    command = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo && exec cat"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PATH": PATH}
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if not process.stdout.readline():
            sys.exit("no namespaces here: run as root, in a container with --privileged")
        yield process.pid
        process.stdin.close()  # ends `cat`, and with it the namespace and its cable


def _run(*command: str) -> None:
    subprocess.run(command, check=True, env={**os.environ, "PATH": PATH})


if __name__ == "__main__":
    main()
