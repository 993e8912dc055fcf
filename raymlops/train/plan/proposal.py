"""Which plan to choose for a model on a cluster, by estimated memory and communication.

Of the plans that can run, fit in memory and use the most workers, the one whose sending costs
least. With P bytes of parameters a worker holds, n replicas and t workers on the tensor axis, a
worker sends about (S. Rajbhandari et al., ZeRO, 2020, section 7; M. Shoeybi et al., Megatron-LM,
2019)

    data     2 P (n-1)/n           gradients summed and handed out
    shard    4 P (n-1)/n           parameters gathered twice, gradients reduced once
    tensor   4 A (t-1)/t a pair    activations of A bytes summed forward and backward

a step; shards of copies send both, the copies only what a shard holds. To reduce gradients to
shards gloo sums them for everyone, as for copies, where ZeRO counts half of that. Workers also wait
for each operation in which they all take part, however little it sends: one for the gradients of
copies, three a block of shards, two a pair of sliced layers. No pipeline is proposed: shards of as
many workers need as little memory, and whether its workers would wait for each other shorter than
for the network is to be measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from raymlops.errors import PlanError
from raymlops.train.plan.feasibility import Limits, axis_sizes, problems
from raymlops.train.plan.plan import ParallelPlan

# Of each byte of an fp32 parameter: itself, its gradient, two moments of Adam.
_BYTES_PER_BYTE = 4
_WAIT_BYTES = 1 << 17
"""What could be sent while an operation is waited for: 0.1 ms of gloo's, at 1 GB a second."""


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Bytes of all parameters, in `num_blocks`, and of those that the tensor axis slices;
    `num_pairs` of sliced layers, each of which sums `activation_bytes` a row."""

    parameter_bytes: int
    num_blocks: int = 1
    sliced_bytes: int = 0
    num_pairs: int = 0
    activation_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A plan, what a worker holds of parameters, gradients and optimizer state, what it sends a
    step, and why this one. Activations come on top."""

    plan: ParallelPlan
    memory_bytes: int
    sent_bytes: int
    why: str


def propose(size: ModelSize, limits: Limits, *, memory_bytes: int) -> Proposal:
    """The best plan for at most `limits.max_workers` of `memory_bytes` each.

    Raises:
        PlanError: nothing fits; says what the smallest would need.
    """
    able = [plan for plan in _plans(limits.max_workers) if not problems(plan, limits)]
    fitting = [plan for plan in able if memory_of(plan, size) <= memory_bytes]
    if not fitting:
        smallest = min(able, key=lambda plan: memory_of(plan, size))
        needed = memory_of(smallest, size)
        raise PlanError(
            "auto",
            (
                f"the smallest, {smallest}, needs {_mib(needed)} a worker for parameters, "
                f"gradients and optimizer state; a worker has {_mib(memory_bytes)}",
            ),
            (),
        )
    best = min(
        fitting,
        key=lambda plan: (-plan.num_workers, _cost(plan, size, limits.batch_size), str(plan)),
    )
    alone, held = memory_of(ParallelPlan(), size), memory_of(best, size)
    sent = sent_by(best, size, limits.batch_size)
    why = (
        f"{best.num_workers} of {limits.max_workers} workers; {len(fitting)} of {len(able)} plans "
        f"that can run fit {_mib(memory_bytes)} (one process needs {_mib(alone)}), of the largest "
        f"sending costs this one least; a worker holds {_mib(held)} and sends {_mib(sent)} a step"
    )
    return Proposal(plan=best, memory_bytes=held, sent_bytes=sent, why=why)


def memory_of(plan: ParallelPlan, size: ModelSize) -> int:
    """Bytes of parameters, gradients and Adam's moments that a worker holds between steps."""
    return _BYTES_PER_BYTE * _held(plan, size) // plan.shard


def sent_by(plan: ParallelPlan, size: ModelSize, batch_size: int) -> int:
    """Bytes a worker sends in a step."""
    held = _held(plan, size)
    shards = 4 * held * (plan.shard - 1) // plan.shard
    copies = 2 * held // plan.shard * (plan.data - 1) // plan.data
    rows = -(-batch_size // plan.num_replicas)
    sums = 4 * size.num_pairs * size.activation_bytes * rows * (plan.tensor - 1) // plan.tensor
    return shards + copies + sums


def waits_of(plan: ParallelPlan, size: ModelSize) -> int:
    """Operations of a step in which all workers of an axis take part."""
    shards = 3 * size.num_blocks if plan.shard > 1 else 0
    sums = 2 * size.num_pairs if plan.tensor > 1 else 0
    return shards + sums + (1 if plan.data > 1 else 0)


def _cost(plan: ParallelPlan, size: ModelSize, batch_size: int) -> int:
    return sent_by(plan, size, batch_size) + _WAIT_BYTES * waits_of(plan, size)


def _held(plan: ParallelPlan, size: ModelSize) -> int:
    """Bytes of the parameters that a worker computes with."""
    return size.parameter_bytes - size.sliced_bytes + size.sliced_bytes // plan.tensor


def _plans(max_workers: int) -> Iterator[ParallelPlan]:
    for data, shard, tensor in axis_sizes(3, max_workers, longest=max_workers):
        yield ParallelPlan(data=data, shard=shard, tensor=tensor)


def _mib(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
