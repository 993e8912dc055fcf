"""Clients that ask without pause, and what came of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from raymlops.errors import RequestError
from raymlops.models import PROBABILITY
from raymlops.serve import Client
from tests.serve.conftest import MODEL, World


def eventually(check: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Returns once `check` holds; its failure is what the last look at the world says."""
    never = threading.Event()
    for _ in range(int(timeout_s / 0.1)):
        if check():
            return
        never.wait(0.1)
    raise AssertionError(f"not within {timeout_s} s: {check}")


@contextmanager
def load(url: str, world: World, *, num_clients: int = 6, retries: int = 0) -> Iterator[list[str]]:
    """Requests without pause while the block runs; yields what came of each, a version or error."""
    done = threading.Event()
    outcomes: list[str] = []
    columns = world.rows(0, 20)
    wanted = {version: b.predict(columns) for version, b in world.bundles.items()}

    def ask() -> None:
        with Client(url, retries=retries, timeout_s=60.0) as client:
            while not done.is_set():
                try:
                    answer = client.infer(MODEL, columns)
                except RequestError as error:
                    outcomes.append(f"{error.status} {error}")
                else:
                    score = wanted[answer.version][PROBABILITY]
                    np.testing.assert_allclose(answer.outputs[PROBABILITY], score, rtol=1e-6)
                    outcomes.append(answer.version)

    with ThreadPoolExecutor(num_clients) as pool:
        clients = [pool.submit(ask) for _ in range(num_clients)]
        try:
            yield outcomes
        finally:
            done.set()
        for client in clients:
            client.result()
