"""What processes of the tests do at once; imported by them, so it imports little."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from raymlops.ledger import Ledger
from raymlops.models import Signature
from raymlops.storage import Store
from tests.processes import PROCESSES


def processes(target: Callable[..., None], arguments: list[tuple[Any, ...]]) -> list[BaseProcess]:
    """Started processes that run `target`, one for each tuple of arguments."""
    made = [PROCESSES.Process(target=target, args=each) for each in arguments]
    for process in made:
        process.start()
    return list(made)


def run_at_once(target: Callable[..., None], arguments: list[tuple[Any, ...]]) -> None:
    """Returns when every process has ended; fails unless each did so well."""
    started = processes(target, arguments)
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * len(started)


def register_many(url: str, run_id: str, count: int) -> None:
    with Ledger(url) as ledger:
        for _ in range(count):
            ledger.registry.register("tumours", bundle="b", signature="{}", run_id=run_id)


def register_signatures(url: str, run_id: str, signatures: list[str]) -> None:
    with Ledger(url) as ledger:
        for text in signatures:
            ledger.registry.register(
                "tumours",
                bundle="b",
                signature=text,
                run_id=run_id,
                bump=Signature.from_dict(json.loads(text)).bump_from_json,
            )


def log_many(url: str, run_id: str, first: int, count: int, buffered: bool) -> None:
    with Ledger(url) as ledger, contextlib.ExitStack() as stack:
        if buffered:
            log = stack.enter_context(ledger.runs.logger(run_id))
        for step in range(first, first + count):
            if buffered:
                log({"loss": step / 8}, step=step)
            else:
                ledger.runs.log(run_id, {"loss": step / 8}, step=step)


def register_until_killed(url: str, store_uri: str, run_id: str, told: Path, number: int) -> None:
    """Tells each version it was acknowledged, and first of all that it is about to begin."""
    store = Store(store_uri)
    with Ledger(url) as ledger:
        file = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, b"begun\n")
        for count in _forever():
            bundle = store.put_tree({"model.onnx": f"{number} {count}".encode()})
            version = ledger.registry.register(
                "tumours", bundle=bundle, signature=f'"{number % 3}"', run_id=run_id
            )
            if count % 5 == 4:
                ledger.registry.move(
                    "tumours", "champion", version.version, who=str(number), why="new", evidence={}
                )
            os.write(file, f"{version.version} {bundle}\n".encode())


def _forever() -> Iterator[int]:
    count = 0
    while True:
        yield count
        count += 1
