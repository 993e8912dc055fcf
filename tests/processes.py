"""Other processes of the tests, forked from one that has imported what they need.

A process then costs some 10 ms instead of 400. Python keeps one such fork server a process, and
only the list it started with counts: every test names its processes here.
"""

from __future__ import annotations

import multiprocessing

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "kazoo.client",
        "mlflow.store.tracking.sqlalchemy_store",
        "sklearn.datasets",
        "tests.coordination.processes",
        "tests.ledger.mirror.test_outages",
        "tests.ledger.writers",
        "raymlops.train.loop.loop",
        "raymlops.train.server.service",
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper",
        "torch.distributed.fsdp",
        "torch.distributed.pipelining",
        "torch.distributed.tensor.parallel",
    ]
)
