"""CUDA graphs: kernels launched together, as they were launched once."""

from __future__ import annotations

from collections.abc import Callable

import torch

from raymlops.errors import TrainingError
from raymlops.train.replay.base import Recorder

# Until then cuDNN, cuBLAS and autocast have made what they make when first used.
_NUM_WARM_UPS = 3


class CudaRecorder(Recorder):
    """Records on a stream of its own; all recordings share one pool of memory.

    They may, because none runs beside another, and the result of each is copied before the next.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        _warm_up(run)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads write checkpoints and watch NCCL meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                result = run()
        except RuntimeError as error:
            raise TrainingError(
                f"cuda_graphs is true, and the model's passes cannot be recorded ({error}): let it "
                "read no values on the host, or set cuda_graphs to false"
            ) from error

        def again() -> torch.Tensor:
            graph.replay()
            return result

        return again


def _warm_up(run: Callable[[], torch.Tensor]) -> None:
    """Off the default stream, whose work a recording on another must not wait for."""
    current, side = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(_NUM_WARM_UPS):
            run()
    current.wait_stream(side)
