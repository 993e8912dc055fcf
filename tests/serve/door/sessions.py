"""A replica of flights that keeps sessions, in a process of its own, until it is killed.

python -m tests.serve.door.sessions DOOR NAME
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.serve.door.world import Replica


async def serve(door: Path, name: str) -> None:
    await Replica(door, name, ["flights"], routing="consistent_hash").doorway.run()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2]))
