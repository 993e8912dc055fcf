"""A node that was spawned and has not answered yet.

It outlives its starter, so it is on record before anybody waits for it. That record lies where the
one of the node that answers will lie, which replaces it in one step.

    spawned ── {"starting": ...} ──┬── answers ────────── its own record
                                   ├── ends, or is late ── no record
                                   └── starter killed ─── ended by whoever starts or stops next
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raymlops.cluster.files import replace_text
from raymlops.cluster.process import SessionLeader
from raymlops.errors import ClusterError

_STARTING = "starting"
# Nothing runs on it yet.
_GRACE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class StartingNode:
    """The process of a node, and the folder of its files."""

    leader: SessionLeader
    scratch: str

    def write(self, path: Path) -> None:
        """Make this the record at `path`."""
        replace_text(path, json.dumps({_STARTING: asdict(self)}, indent=2))

    def end(self) -> None:
        """End the node and all it started, and remove its files."""
        self.leader.end(grace_s=_GRACE_S)
        shutil.rmtree(self.scratch, ignore_errors=True)


def end_unanswered(path: Path) -> bool:
    """End the node whose start was cut off, if the record at `path` tells of one, and forget it.

    The caller holds the lock of `path`: nobody waits for that node any more.
    """
    fields = _read(path).get(_STARTING)
    if fields is None:
        return False
    leader = SessionLeader.from_fields(fields["leader"], source=str(path))
    StartingNode(leader=leader, scratch=fields["scratch"]).end()
    path.unlink()
    return True


def read_answered(path: Path) -> dict[str, Any] | None:
    """What is on record at `path` of a node that answered, or None."""
    fields = _read(path)
    return None if not fields or _STARTING in fields else fields


def _read(path: Path) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ClusterError(
            f"{path}, which tells of the node that was started here, is damaged: {error}; see by "
            "`ps -ef | grep 'ray start'` whether that still runs, end it, and delete the file"
        ) from error
    return fields
