"""Compression in DistributedDataParallel."""

# Without `from __future__ import annotations`: torch compares the hook's annotations with types.

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import GradBucket
from torch.nn.parallel import DistributedDataParallel

from raymlops.train.compression.base import Compressor, Gradient
from raymlops.train.compression.exchange import Exchange
from raymlops.train.compression.feedback import Feedback


class CompressionHook:
    """Averages the gradients of a model compressed, while the rest of them is computed.

        with CompressionHook(TopK(ratio=0.01), model) as hook:
            train(model)
            print(hook.sent_bytes)

    Every worker makes one, at the same point. It talks in a process group of its own, in a thread:
    buckets are averaged in the order in which they are ready, which is the same on all workers.
    Residuals are by parameter, since DDP makes its buckets anew after the first step.

    Raises:
        ValueError: a parameter is not in the memory of the CPU, which gloo sends from, or gets
            sparse gradients, or workers were given different compressors.
    """

    def __init__(self, compressor: Compressor, model: DistributedDataParallel) -> None:
        self._names = {id(each): name for name, each in model.module.named_parameters()}
        for name, parameter in model.module.named_parameters():
            if parameter.device.type != "cpu":
                raise ValueError(
                    f"{name} is on {parameter.device}; gradients are compressed on the CPU only"
                )
        _require_dense(model.module)
        ranks = dist.get_process_group_ranks(model.process_group)
        group = dist.new_group(ranks, backend="gloo", use_local_synchronization=True)
        _check_alike(compressor, group)
        self._feedback = Feedback(compressor)
        self._exchange = Exchange(group)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="raymlops-compression")
        self._unused: list[tuple[torch.Tensor, torch.Tensor]] = []
        model.register_comm_hook(self, _launch)

    @property
    def sent_bytes(self) -> int:
        """What this worker has sent: payloads, without the headers of the network."""
        return self._exchange.sent_bytes

    def settle(self, *, finite: bool = True) -> None:
        """Ends a step, which was skipped unless all was `finite`; needed where other workers or a
        look at the loss may have it skipped although the averages are finite."""
        self._feedback.settle(finite=finite)

    def hand_on(self) -> None:
        """Gives parameters that no worker used in the last backward pass what came for them: it was
        not sent in steps before, and DDP leaves them without a gradient."""
        for parameter, mean in self._unused:
            if parameter.grad is None and bool(mean.any()):
                parameter.grad = mean.to(parameter.dtype)
        self._unused.clear()

    def rescale(self, factor: float) -> None:
        """Must be told when a loss scaler changes its scale by `factor`."""
        self._feedback.rescale(factor)

    def state_dict(self) -> dict[str, Any]:
        """This worker's part of a checkpoint: each worker has residuals of its own."""
        return self._feedback.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._feedback.load_state_dict(state)

    def close(self) -> None:
        """Ends the thread; the model cannot be trained any more."""
        self._thread.shutdown()

    def __enter__(self) -> "CompressionHook":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def average(self, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        """The mean of a bucket over workers, when it is known."""
        buffer = bucket.buffer()
        parameters = bucket.parameters()
        gradient = Gradient(
            vector=buffer.float(),
            names=tuple(self._names[id(each)] for each in parameters),
            shapes=tuple(tuple(each.shape) for each in parameters),
        )
        future: torch.futures.Future[torch.Tensor] = torch.futures.Future()

        def run() -> None:
            try:
                rounds = self._feedback.average(gradient, self._exchange.seat)
                mean = self._exchange.run(rounds)
                self._unused += [
                    (each, part.clone())
                    for each, part in zip(parameters, gradient.parts(mean), strict=True)
                    if each.grad is None
                ]
                future.set_result(mean.to(buffer.dtype))
            except Exception as error:  # whatever it is, the training waits for an answer
                future.set_exception(error)  # type: ignore[arg-type]  # torch says: of the result's type

        self._thread.submit(run)
        return future


def _launch(state: CompressionHook, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    return state.average(bucket)


def _require_dense(model: nn.Module) -> None:
    sparse = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
        and module.sparse
        and module.weight.requires_grad
    ]
    if sparse:
        raise ValueError(
            f"{', '.join(sparse)} makes sparse gradients, and compressors take dense ones: set "
            "sparse=False there, compressor to null, or train on a parameter server"
        )


def _check_alike(compressor: Compressor, group: dist.ProcessGroup) -> None:
    """Gloo ends a process that is sent more bytes than it expects."""
    found: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(found, repr(compressor), group=group)
    if len(set(found)) > 1:
        raise ValueError(f"the workers compress by {found}, in the order of ranks; give all one")
