"""The training loop that the Trainer is held against, in plain torch: DDP under torchrun.

    python -m torch.distributed.run --nproc-per-node 2 -m benchmarks.peers.torchrun_ddp STEPS FILE

Rank 0 leaves the seconds of each step in FILE, as JSON.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from tests.train import models

BATCH_SIZE = 256


def batches(num_rows: int, rank: int, num_workers: int) -> Iterator[torch.Tensor]:
    """This worker's rows of every batch, shuffled anew in every epoch."""
    for epoch in itertools.count():
        order = torch.randperm(num_rows, generator=torch.Generator().manual_seed(epoch))
        for batch in order.split(BATCH_SIZE):
            yield batch[rank::num_workers]


def main() -> None:
    num_steps, file = int(sys.argv[1]), Path(sys.argv[2])
    dist.init_process_group("gloo")
    rank, num_workers = dist.get_rank(), dist.get_world_size()
    source, _ = models.digits(rows=1792)
    columns = source.take(np.arange(len(source)))
    images, labels = (torch.from_numpy(column) for column in columns)
    torch.manual_seed(0)
    model = DistributedDataParallel(models.mlp(width=1024))
    optimizer = torch.optim.AdamW(model.parameters())
    took, before = [], time.perf_counter()
    for rows in itertools.islice(batches(len(source), rank, num_workers), num_steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        float(loss.detach())  # a loop that shows its loss waits for it
        now = time.perf_counter()
        took.append(now - before)
        before = now
    if rank == 0:
        file.write_text(json.dumps(took))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
