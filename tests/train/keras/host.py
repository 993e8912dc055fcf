"""Workers with TensorFlow, forked from one process that has imported it and done nothing with it.

Importing takes seconds; torch's fork server must not have TensorFlow beside it.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

_SPAWN = multiprocessing.get_context("spawn")
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True, kw_only=True)
class Crew:
    """So many workers with so many devices each, started with these variables."""

    num_workers: int = 1
    num_devices: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)


class Host:
    """`run` calls a function in so many workers that train together, and returns what each gave."""

    def __init__(self) -> None:
        self._jobs, there = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(there,))
        self._process.start()
        there.close()

    def run(
        self,
        crew: Crew,
        body: Callable[..., Any],
        *arguments: Any,
    ) -> list[Any]:
        """What `body(strategy, *arguments)` returns in each worker, by rank.

        Raises:
            RuntimeError: a worker failed, with its traceback, or died.
        """
        self._jobs.send((crew, body, arguments))
        answers: list[tuple[bool, Any]] = self._jobs.recv()
        if failures := [told for failed, told in answers if failed]:
            raise RuntimeError("\n".join(failures))
        return [told for _, told in answers]

    def close(self) -> None:
        self._jobs.close()
        self._process.join()


def _serve(jobs: Connection) -> None:
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"}
    import keras  # noqa: F401
    import tf_keras  # noqa: F401

    while True:
        try:
            crew, body, arguments = jobs.recv()
        except EOFError:
            return
        jobs.send(_run(crew, body, arguments))


def _run(crew: Crew, body: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Any]:
    addresses = _free_addresses(crew.num_workers)
    started = []
    for rank in range(crew.num_workers):
        here, there = _FORK.Pipe(duplex=False)
        process = _FORK.Process(target=_work, args=(there, crew, addresses, rank, body, arguments))
        process.start()
        there.close()
        started.append((process, here))
    answers = [_answer(here) for _, here in started]
    for process, _ in started:
        process.join()
    return answers


def _answer(connection: Connection) -> tuple[bool, Any]:
    try:
        answer: tuple[bool, Any] = connection.recv()
    except EOFError:
        return True, "a worker died without a word"
    return answer


def _work(
    answer: Connection,
    crew: Crew,
    addresses: list[str],
    rank: int,
    body: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    import tensorflow as tf

    from raymlops.train.keras.strategy import join, make_strategy

    os.environ |= crew.environment
    if crew.num_devices > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        slices = [tf.config.LogicalDeviceConfiguration()] * crew.num_devices
        tf.config.set_logical_device_configuration(cpu, slices)
    try:
        if len(addresses) > 1:
            join(addresses, rank)
        answer.send((False, body(make_strategy(num_threads=1), *arguments)))
    except Exception:
        answer.send((True, f"rank {rank}:\n{traceback.format_exc()}"))
    answer.close()


def _free_addresses(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return [f"127.0.0.1:{port}" for port in ports]
