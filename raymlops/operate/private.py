"""Which models a private Ray serves, and whether its process was killed.

It ends with the process that started it. One that is killed withdraws nothing: by the ledger it
answers for ever, and there is no cluster to ask. So it says where it can be looked for.

    HOME/private/PID.json    {"host": "node-1", "models": ["flights"], "pid": 4711, ...}
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raymlops.cluster.files import replace_text
from raymlops.cluster.process import SessionLeader


@contextmanager
def serving_privately(home: Path, models: Sequence[str]) -> Iterator[None]:
    """Has this process known, for the length of the block, as the one that serves `models`."""
    path = _folder(home) / f"{os.getpid()}.json"
    fields = {
        "host": socket.gethostname(),
        "models": list(models),
        **asdict(SessionLeader.of(os.getpid())),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(fields))
    try:
        yield
    finally:
        path.unlink()


def is_served_privately(home: Path, model: str) -> bool | None:
    """Whether a private Ray serves `model`; False where each that did was killed, None where none
    did."""
    lives = [_lives(fields) for _, fields in _records(home) if model in fields["models"]]
    return any(lives) if lives else None


def forget_killed(home: Path, model: str) -> None:
    """From now on another serves `model`, or nobody is to."""
    for path, fields in _records(home):
        if model in fields["models"] and not _lives(fields):
            path.unlink(missing_ok=True)


def _lives(fields: dict[str, Any]) -> bool:
    """What runs on another machine that shares this home cannot be seen from here."""
    if fields["host"] != socket.gethostname():
        return True
    leader = SessionLeader(pid=fields["pid"], boot=fields["boot"], started=fields["started"])
    return leader.process() is not None


def _records(home: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in _folder(home).glob("*.json"):
        try:
            yield path, json.loads(path.read_text())
        except FileNotFoundError:  # it has just ended
            continue


def _folder(home: Path) -> Path:
    return home / "private"
